// An API that is sold, as a handler of fetch's kind: for Workers, Bun and Deno, and as a Next.js route.
import { Keymeter, withKey } from "@keymeter/sdk";

const { KEYMETER_URL = "http://127.0.0.1:8080", KEYMETER_SERVICE_TOKEN = "" } = process.env;
const km = new Keymeter({ baseUrl: KEYMETER_URL, credential: KEYMETER_SERVICE_TOKEN });

export default {
  fetch: withKey(km, { scope: "rag", cost: { category: "rag", quantity: 1 } }, (_request, verdict) =>
    Response.json({ answer: 42, credits: verdict.credits }),
  ),
};
