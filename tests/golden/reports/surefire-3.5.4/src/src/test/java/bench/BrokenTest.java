package bench;

import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;

class BrokenTest {
    @BeforeAll static void power() { throw new IllegalStateException("no power"); }

    @Test void never() {}
}
