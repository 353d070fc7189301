jest.retryTimes(2);
let runs = 0;

describe("bus", () => {
  test("ok", () => {});
  test("bad", () => { expect("\u001b[31mred\u001b[0m").toBe("Prüfstand"); });
  test.skip("skipped", () => {});
  test.todo("later");
  test("flaky", () => { expect(++runs).toBe(2); });
});
