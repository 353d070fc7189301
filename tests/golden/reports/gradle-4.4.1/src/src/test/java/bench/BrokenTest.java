package bench;

import org.junit.BeforeClass;
import org.junit.Test;

public class BrokenTest {
    @BeforeClass public static void power() { throw new IllegalStateException("no power"); }

    @Test public void never() {}
}
