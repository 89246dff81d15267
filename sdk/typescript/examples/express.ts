// An API that is sold, with Express.
import { Keymeter, requireKey, verdictOf } from "@keymeter/sdk";
import express from "express";

const { KEYMETER_URL = "http://127.0.0.1:8080", KEYMETER_SERVICE_TOKEN = "" } = process.env;
const km = new Keymeter({ baseUrl: KEYMETER_URL, credential: KEYMETER_SERVICE_TOKEN });

export const app = express();
app.use(requireKey(km, { cost: { category: "rag", quantity: 1 } }));
app.get("/", (request, response) => {
  response.json({ answer: 42, credits: verdictOf(request).credits });
});
