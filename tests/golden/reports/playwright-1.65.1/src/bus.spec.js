const { test, expect } = require("@playwright/test");

test.describe("bus", () => {
  test("ok", () => {});
  test("bad", () => { expect("Prüfstand").toBe("x"); });
  test("two failures", () => { expect.soft(1).toBe(2); expect.soft(3).toBe(4); });
  test.skip("skipped", () => {});
  test.fixme("later", () => {});
  test("flaky", ({}, info) => { expect(info.retry).toBe(1); });
  test("slow", async () => { test.setTimeout(200); await new Promise(() => {}); });
});
test.describe("hook", () => {
  test.beforeAll(() => { throw new Error("no power"); });
  test("never", () => {});
});
