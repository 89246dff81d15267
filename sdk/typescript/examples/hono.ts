// An API that is sold, with Hono.
import { checkKey, Keymeter, type Verdict } from "@keymeter/sdk";
import { Hono } from "hono";

const { KEYMETER_URL = "http://127.0.0.1:8080", KEYMETER_SERVICE_TOKEN = "" } = process.env;
const km = new Keymeter({ baseUrl: KEYMETER_URL, credential: KEYMETER_SERVICE_TOKEN });

const app = new Hono<{ Variables: { verdict: Verdict } }>();
app.use(async (c, next) => {
  const verdict = await checkKey(km, { cost: { category: "rag", quantity: 1 } }, c.req.raw);
  if (verdict instanceof Response) return verdict;
  c.set("verdict", verdict);
  await next();
});
app.get("/", (c) => c.json({ answer: 42, credits: c.get("verdict").credits }));

export default app;
