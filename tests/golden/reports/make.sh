#!/bin/sh
# Makes the reports again, with the versions of the tools that are on PATH: make.sh TOOL-VERSION…
#
# Each tool's project is copied to /build/TOOL and run there on a host called `bench`, so that no
# report names the machine it was made on. A tool that fails its tests is what is wanted here.
set -u
here=$(cd "$(dirname "$0")" && pwd)
if [ "${1-}" != --inside ]; then
    exec unshare --uts sh -c 'hostname bench && exec sh "$@"' sh "$0" --inside "$@"
fi
shift
for name; do
    folder=$here/$name
    tool=${name%-[0-9]*}
    rm -rf "/build/$tool" && mkdir -p /build && cp -r "$folder/src" "/build/$tool" || exit 2
    cd "/build/$tool" || exit 2
    case $tool in
    pytest) pytest -q bus.py --junitxml=junit.xml ;;
    pytest-rerunfailures)
        pytest -q flaky.py --reruns 2 --junitxml=junit.xml ;;
    gtest)
        cmake -S . -B out >/dev/null && cmake --build out >/dev/null
        out/bus --gtest_output=xml:junit.xml ;;
    ctest) cmake -S . -B out >/dev/null && cd out
        ctest --repeat until-pass:2 --output-junit ../junit.xml; cd .. ;;
    catch2) c++ -std=c++17 bus.cc -o bus && ./bus -r junit -o junit.xml ;;
    surefire) mvn -q -B test
        # The properties are left out: they are pages about the machine.
        for suite in Bus Broken; do
            sed '/<properties>/,/<\/properties>/d' \
                "target/surefire-reports/TEST-bench.${suite}Test.xml" >"$(echo $suite | tr A-Z a-z).xml"
        done ;;
    gradle) gradle --offline --no-daemon -q test
        for suite in Bus Broken; do
            cp "build/test-results/test/TEST-bench.${suite}Test.xml" "$(echo $suite | tr A-Z a-z).xml"
        done ;;
    gotestsum) gotestsum --rerun-fails=1 --packages=. --junitfile junit.xml
        gotestsum --junitfile broken.xml ./broken ./dies ;;
    nextest) cargo nextest run; cp target/nextest/default/junit.xml junit.xml ;;
    mocha) mocha --reporter xunit --reporter-option output=xunit.xml bus.spec.js ;;
    jest) jest --reporters=jest-junit --rootDir=.
        JEST_JUNIT_OUTPUT_NAME=errors.xml JEST_JUNIT_REPORT_TEST_SUITE_ERRORS=true \
            jest --reporters=jest-junit --rootDir=. ;;
    playwright)
        PLAYWRIGHT_JUNIT_OUTPUT_FILE=junit.xml playwright test --retries=1 --reporter=junit
        PLAYWRIGHT_JUNIT_OUTPUT_FILE=retries.xml PLAYWRIGHT_JUNIT_INCLUDE_RETRIES=1 \
            playwright test --retries=1 --reporter=junit ;;
    robot) robot --xunit junit.xml --output NONE --report NONE --log NONE bench ;;
    phpunit) phpunit --log-junit junit.xml BusTest.php ;;
    tap) node bus.js > bus.tap
        tap-junit < bus.tap > tap-junit.xml
        tap-xunit < bus.tap > tap-xunit.xml
        tap2junit --input bus.tap --output tap2junit.xml ;;
    *) echo "no such tool: $tool" >&2; exit 2 ;;
    esac >"/build/$tool.out" 2>&1
    echo "$tool: exit $?"
    cp ./*.xml "$folder/"
    rm -f "$folder/pom.xml"
done
