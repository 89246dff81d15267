/** A page as each list of the contract has it. */
export interface Page<T> {
  data: T[];
  nextCursor: string | null;
  hasMore: boolean;
}

type ItemOf<P> = P extends Page<infer T> ? T : never;

/**
 * A list. `for await` goes through all of its items, page after page; `await` gets the first page alone. Nothing is
 * asked for before.
 */
export class List<P extends Page<unknown>> implements PromiseLike<P>, AsyncIterable<ItemOf<P>> {
  readonly #fetch: (cursor?: string) => Promise<P>;

  /** Takes what fetches the page at a cursor, or the first one. */
  constructor(fetch: (cursor?: string) => Promise<P>) {
    this.#fetch = fetch;
  }

  then<A = P, B = never>(
    fulfilled?: ((page: P) => A | PromiseLike<A>) | null,
    rejected?: ((reason: unknown) => B | PromiseLike<B>) | null,
  ): Promise<A | B> {
    return this.#fetch().then(fulfilled, rejected);
  }

  /** Goes through the list page by page. */
  async *pages(): AsyncGenerator<P, void, undefined> {
    let page = await this.#fetch();
    yield page;
    while (page.hasMore && page.nextCursor !== null) {
      page = await this.#fetch(page.nextCursor);
      yield page;
    }
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<ItemOf<P>, void, undefined> {
    for await (const page of this.pages()) yield* page.data as ItemOf<P>[];
  }
}
