export type * from "./contract.js";
export { Keymeter } from "./client.js";
export { KeymeterConnectionError, KeymeterError, type KeymeterErrorCode } from "./errors.js";
export type { GuardOptions, Verdict } from "./guard.js";
export { checkKey, withKey } from "./guard-fetch.js";
export { requireKey, verdictOf } from "./guard-node.js";
export { List, type Page } from "./list.js";
export type { CallOptions, KeymeterOptions, OnceOptions } from "./transport.js";
