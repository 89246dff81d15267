import type { operations } from "./contract.js";

/** The JSON body that an operation takes. */
export type Body<O extends keyof operations> =
  NonNullable<operations[O]["requestBody"]> extends { content: { "application/json": infer B } } ? B : never;

/** The query parameters that an operation takes. */
export type Query<O extends keyof operations> = NonNullable<operations[O]["parameters"]["query"]>;
