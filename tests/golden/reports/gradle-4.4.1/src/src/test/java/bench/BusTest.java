package bench;

import static org.junit.Assert.assertEquals;
import static org.junit.Assume.assumeTrue;

import org.junit.Ignore;
import org.junit.Test;

public class BusTest {
    @Test public void ok() { System.out.println("fine"); }

    @Test public void bad() { assertEquals("wrong frame", 1, 2); }

    @Test public void broken() { throw new IllegalStateException("boom"); }

    @Test @Ignore("no hardware") public void ignored() {}

    @Test public void assumed() { assumeTrue("no power", false); }
}
