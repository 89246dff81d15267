// A service verifies a key, spends, and holds credits for work whose cost is known at its end.
// Run it with KEYMETER_URL, KEYMETER_SERVICE_TOKEN and, as the customer's key, KEYMETER_API_KEY.
import { Keymeter } from "@keymeter/sdk";

const { KEYMETER_URL = "http://127.0.0.1:8080", KEYMETER_SERVICE_TOKEN = "", KEYMETER_API_KEY = "" } = process.env;
const km = new Keymeter({ baseUrl: KEYMETER_URL, credential: KEYMETER_SERVICE_TOKEN });

const speech = { category: "tts", provider: "cartesia", quantity: 1200 } as const;
const verdict = await km.keys.verify({ key: KEYMETER_API_KEY, cost: speech });
console.log(`${verdict.code}: spent ${verdict.credits}`);

const { keyId } = verdict;
if (keyId === undefined) throw new Error(`refused: ${verdict.code}`);

const hold = await km.reservations.create({ eventId: crypto.randomUUID(), keyId, category: "llm", credits: 500 });
const settled = await km.reservations.settle(hold.id, { provider: "gpt-4.1", quantity: 12_000, outputQuantity: 3_400 });
console.log(`held ${hold.held}, charged ${settled.credits}`);

const results = await km.usage.recordBatch([
  { id: crypto.randomUUID(), keyId, category: "rag", quantity: 3 },
  { id: crypto.randomUUID(), keyId, category: "rag", credits: 1_000_000 },
]);
for (const { status, credits, code = "fine" } of results) console.log(`${status} ${credits}: ${code}`);
