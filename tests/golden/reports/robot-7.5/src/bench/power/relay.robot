*** Settings ***
Suite Setup    Fail    PSU does not answer

*** Test Cases ***
Relay Opens
    No Operation
