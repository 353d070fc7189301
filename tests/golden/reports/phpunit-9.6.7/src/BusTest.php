<?php
use PHPUnit\Framework\TestCase;

final class BusTest extends TestCase
{
    public function testOk(): void { $this->assertTrue(true); }
    public function testBad(): void { $this->assertSame(1, 2, 'wrong frame'); }
    public function testThrows(): void { throw new RuntimeException('boom'); }
    public function testSkipped(): void { $this->markTestSkipped('no hardware'); }
    public function testIncomplete(): void { $this->markTestIncomplete('later'); }
    public function testRisky(): void {}
    public function testWarns(): void { $this->addWarning('careful'); $this->assertTrue(true); }
    /** @dataProvider frames */
    public function testFrames(int $frame): void { $this->assertSame(1, $frame); }
    public static function frames(): array { return ['one' => [1], 'two' => [2]]; }
}
