const assert = require("assert");

describe("bus", () => {
  it("ok", () => {});
  it("bad", () => { assert.deepStrictEqual({ a: 1 }, { a: 2 }, "\u001b[31mred\u001b[0m \u0000"); });
  it("pending");
  describe("inner", () => { it("same", () => {}); });
});
describe("power", () => {
  describe("inner", () => { it("same", () => { throw new Error("ungültig ✓"); }); });
});
describe("hook", () => {
  before(() => { throw new Error("no bench"); });
  it("never", () => {});
});
describe("flaky", function () {
  this.retries(2);
  let runs = 0;
  it("second time", () => { assert.strictEqual(++runs, 2); });
});
