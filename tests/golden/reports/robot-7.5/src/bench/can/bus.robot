*** Test Cases ***
Send
    No Operation

Receive äöü ✓
    Fail    *HTML* <b>no</b> frame

Skipped
    Skip    no hardware

Multi
    Run Keyword And Continue On Failure    Fail    first
    Run Keyword And Continue On Failure    Fail    second
