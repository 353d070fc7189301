const test = require("tape");

test("ok", (t) => { t.pass("fine"); t.end(); });
test("bad", (t) => { t.equal(1, 2, "wrong frame"); t.equal(3, 4, "second"); t.end(); });
test("skipped", { skip: "no hardware" }, (t) => { t.end(); });
test("todo", { todo: true }, (t) => { t.equal(1, 2, "later"); t.end(); });
