package bench;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assumptions.assumeTrue;

import org.junit.jupiter.api.Disabled;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

class BusTest {
    static int runs;

    @Test void ok() {}

    @Test void bad() { assertEquals(1, 2, "wrong frame"); }

    @Test void broken() { throw new IllegalStateException("boom"); }

    @Test @Disabled("no hardware") void disabled() {}

    @Test void assumed() { assumeTrue(false, "no power"); }

    @Test void flaky() { assertEquals(2, ++runs, "first time"); }

    @ParameterizedTest @ValueSource(strings = {"Prüfstand", "x"}) void texts(String text) {}
}
