import { once } from "node:events";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { baseUrl } from "./server.js";

/** A request as the proxy saw it. */
export interface Seen {
  method: string;
  path: string;
  headers: IncomingMessage["headers"];
  body: string;
}

/** What to do with a request instead of passing it on. */
export type Misbehaviour = (response: ServerResponse, seen: Seen) => unknown;

/** Stands before the server and misbehaves once for each entry of `next`, in order; then it passes everything on. */
export class Proxy {
  readonly seen: Seen[] = [];
  readonly next: Misbehaviour[] = [];
  readonly #server = createServer((request, response) => void this.#serve(request, response));

  static async start(): Promise<Proxy> {
    const proxy = new Proxy();
    proxy.#server.listen(0, "127.0.0.1");
    await once(proxy.#server, "listening");
    return proxy;
  }

  get url(): string {
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  close(): void {
    this.#server.closeAllConnections();
    this.#server.close();
  }

  async #serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const seen = {
      method: request.method ?? "",
      path: request.url ?? "",
      headers: request.headers,
      body: Buffer.concat(await request.toArray()).toString(),
    };
    this.seen.push(seen);
    const misbehave = this.next.shift() ?? pass;
    await misbehave(response, seen);
  }
}

/** Passes the request on and its answer back. */
export async function pass(response: ServerResponse, seen: Seen): Promise<void> {
  const answer = await ask(seen);
  response.writeHead(answer.status, Object.fromEntries(answer.headers));
  response.end(Buffer.from(await answer.arrayBuffer()));
}

/** Passes the request on and loses the answer. */
export async function lose(response: ServerResponse, seen: Seen): Promise<void> {
  await (await ask(seen)).arrayBuffer();
  response.destroy();
}

/** Cuts the connection. */
export const reset: Misbehaviour = (response) => response.destroy();

/** Never answers. */
export const hang: Misbehaviour = () => undefined;

/** Begins an answer and cuts the connection. */
export const cut: Misbehaviour = (response) => {
  response.writeHead(200, { "Content-Type": "application/json", "Content-Length": "100" });
  response.write("{", () => response.destroy());
};

/** Answers with a page, as a load balancer does. */
export function html(status: number, headers: Record<string, string> = {}): Misbehaviour {
  return (response, seen) => {
    response.writeHead(status, { "Content-Type": "text/html", ...headers });
    response.end(`<h1>${status}</h1>${JSON.stringify(seen)}`); // echoes what it was sent
  };
}

/** Answers with a problem document of Keymeter's. */
export function problem(status: number, code: string, headers: Record<string, string> = {}): Misbehaviour {
  return (response) => {
    response.writeHead(status, { "Content-Type": "application/problem+json", ...headers });
    response.end(
      JSON.stringify({ type: `urn:keymeter:problem:${code}`, title: code, status, detail: "A test.", code, requestId: "req_1" }),
    );
  };
}

function ask({ method, path, headers, body }: Seen): Promise<Response> {
  const kept = Object.entries(headers).filter(([name]) => !["host", "connection", "content-length"].includes(name));
  return fetch(baseUrl + path, { method, headers: kept as [string, string][], ...(body && { body }) });
}
