import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { readdir } from "node:fs/promises";
import test from "node:test";
import { promisify } from "node:util";

test("the package has what was built from src/, and nothing else", async () => {
  const { stdout } = await promisify(execFile)("npm", ["pack", "--dry-run", "--json", "--ignore-scripts"]);
  const answer = JSON.parse(stdout) as { files: { path: string }[] }[] | Record<string, { files: { path: string }[] }>;
  const [packed] = Object.values(answer); // an object since npm 12, an array before
  const sources = (await readdir("src")).map((name) => `dist/${name.replace(/\.ts$/, "")}`);
  const expected = ["LICENSE", "README.md", "package.json", ...sources.flatMap((s) => [`${s}.js`, `${s}.d.ts`])];
  assert.deepEqual(packed?.files.map((file) => file.path).sort(), expected.sort());
});
