// Writes the README's TypeScript to build/readme, where it is compiled with the tests.
import { mkdir, readFile, rm, writeFile } from "node:fs/promises";

const blocks = [...(await readFile("README.md", "utf8")).matchAll(/^```ts\n(.*?)^```$/gms)];
if (blocks.length === 0) throw new Error("README.md has no TypeScript");
await rm("build/readme", { recursive: true, force: true });
await mkdir("build/readme", { recursive: true });
await Promise.all(blocks.map(([, code], i) => writeFile(`build/readme/${i + 1}.ts`, code)));
