// A customer keeps its keys. Run it with KEYMETER_URL and KEYMETER_API_KEY.
import { Keymeter, KeymeterError } from "@keymeter/sdk";

const { KEYMETER_URL = "http://127.0.0.1:8080", KEYMETER_API_KEY = "" } = process.env;
const km = new Keymeter({ baseUrl: KEYMETER_URL, credential: KEYMETER_API_KEY });

const created = await km.keys.create({ name: "Production", expiresInDays: 90, scopes: ["tts", "rag"] });
console.log(`created ${created.name}, shown once: ${created.key.slice(0, 13)}...`);

const rotated = await km.keys.rotate(created.id, { overlapSeconds: 3600 });
console.log(`rotated: ${rotated.id !== created.id ? "a new key" : "?"}, the old one works for an hour`);

for await (const key of km.keys.list()) console.log(`listed ${key.name}`);

await km.keys.revoke(rotated.id);
try {
  await km.keys.get(rotated.id);
} catch (error) {
  if (!(error instanceof KeymeterError)) throw error;
  console.log(`revoked: ${error.code}`);
}
