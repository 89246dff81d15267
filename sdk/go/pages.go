package keymeter

import (
	"context"
	"iter"
)

// pageSize is the most that the API returns at once.
const pageSize = 100

// Keys are all keys of the account that are not revoked, newest first. An error is the last that the loop sees.
func (c *Client) Keys(ctx context.Context, params ListKeysParams) iter.Seq2[Key, error] {
	return all(params.Limit, params.Cursor, func(limit *int32, cursor *string) ([]Key, *string, error) {
		params.Limit, params.Cursor = limit, cursor
		page, err := c.ListKeys(ctx, params)
		if err != nil {
			return nil, nil, err
		}
		return page.Data, page.NextCursor, nil
	})
}

// UsageEvents are the account's events, the last recorded first. An error is the last that the loop sees.
func (c *Client) UsageEvents(ctx context.Context, params ListUsageEventsParams) iter.Seq2[RecordedEvent, error] {
	return all(params.Limit, params.Cursor, func(limit *int32, cursor *string) ([]RecordedEvent, *string, error) {
		params.Limit, params.Cursor = limit, cursor
		page, err := c.ListUsageEvents(ctx, params)
		if err != nil {
			return nil, nil, err
		}
		return page.Data, page.NextCursor, nil
	})
}

// Accounts are all accounts, newest first. An error is the last that the loop sees.
func (c *Client) Accounts(ctx context.Context, params ListAccountsParams) iter.Seq2[Account, error] {
	return all(params.Limit, params.Cursor, func(limit *int32, cursor *string) ([]Account, *string, error) {
		params.Limit, params.Cursor = limit, cursor
		page, err := c.ListAccounts(ctx, params)
		if err != nil {
			return nil, nil, err
		}
		return page.Data, page.NextCursor, nil
	})
}

// Ledger is all entries of an account's ledger, the latest first. An error is the last that the loop sees.
func (c *Client) Ledger(ctx context.Context, accountID string, params ListLedgerParams) iter.Seq2[LedgerEntry, error] {
	return all(params.Limit, params.Cursor, func(limit *int32, cursor *string) ([]LedgerEntry, *string, error) {
		params.Limit, params.Cursor = limit, cursor
		page, err := c.ListLedger(ctx, accountID, params)
		if err != nil {
			return nil, nil, err
		}
		return page.Data, page.NextCursor, nil
	})
}

// all yields what is on this page and all after it. Limit is the size of a page, as large as can be if left out.
func all[T any](limit *int32, cursor *string, get func(limit *int32, cursor *string) ([]T, *string, error)) iter.Seq2[T, error] {
	if limit == nil {
		limit = Ptr[int32](pageSize)
	}
	return func(yield func(T, error) bool) {
		for cursor := cursor; ; {
			data, next, err := get(limit, cursor)
			if err != nil {
				var none T
				yield(none, err)
				return
			}
			for _, v := range data {
				if !yield(v, nil) {
					return
				}
			}
			if next == nil {
				return
			}
			cursor = next
		}
	}
}
