package httpapi

import (
	"context"

	"github.com/keymeter/keymeter/gen/api"
	"github.com/keymeter/keymeter/internal/credits"
	"github.com/keymeter/keymeter/internal/fault"
	"github.com/keymeter/keymeter/internal/idempotency"
	"github.com/keymeter/keymeter/internal/postgres"
)

func (s *server) GrantCredits(ctx context.Context, r api.GrantCreditsRequestObject) (api.GrantCreditsResponseObject, error) {
	kind := credits.Kind(r.Body.Kind)
	if r.Body.Credits == 0 || r.Body.Credits < 0 && (kind != credits.Adjustment || r.Body.ExpiresAt != nil) {
		return nil, fault.InvalidField("credits", "must be above 0, or below it for an adjustment without expiresAt")
	}
	once := request(ctx, "grantCredits", r.Params.IdempotencyKey, r.AccountID, r.Body)
	return idempotency.DoTx(ctx, s.Idempotency, once, func(tx postgres.Tx) (api.GrantCredits201JSONResponse, error) {
		given, err := s.grantTx(ctx, tx, r.AccountID, *r.Body)
		if err != nil {
			return api.GrantCredits201JSONResponse{}, err
		}
		b, err := s.Credits.CurrentTx(ctx, tx, r.AccountID)
		return api.GrantCredits201JSONResponse{Credits: given, Balance: toCredits(b)}, err
	})
}

func (s *server) grantTx(ctx context.Context, tx postgres.Tx, accountID string, g api.GrantRequest) (int64, error) {
	if g.Credits < 0 {
		taken, err := s.Credits.AdjustTx(ctx, tx, accountID, -g.Credits, g.Reason)
		return -taken, err
	}
	_, err := s.Credits.GrantTx(ctx, tx, credits.Grant{
		AccountID: accountID, Kind: credits.Kind(g.Kind), Amount: g.Credits, Source: s.IDs.New("operator"), Reason: g.Reason,
		ExpiresAt: g.ExpiresAt,
	})
	return g.Credits, err
}

func (s *server) ListLedger(ctx context.Context, r api.ListLedgerRequestObject) (api.ListLedgerResponseObject, error) {
	if _, err := s.Accounts.Get(ctx, r.AccountID); err != nil {
		return nil, err
	}
	found, next, err := s.Credits.Entries(ctx, r.AccountID, credits.EntriesQuery{
		Kind: credits.EntryKind(deref(r.Params.Type)), Limit: limitOf(r.Params.Limit), Cursor: deref(r.Params.Cursor),
	})
	if err != nil {
		return nil, err
	}
	data, nextCursor := page(found, next != "", toLedgerEntry, func(credits.Entry) string { return next })
	return api.ListLedger200JSONResponse{Data: data, NextCursor: nextCursor, HasMore: next != ""}, nil
}

func (s *server) GetStatement(ctx context.Context, r api.GetStatementRequestObject) (api.GetStatementResponseObject, error) {
	st, err := s.Credits.Statement(ctx, principalOf(ctx).AccountID, r.Params.Period)
	if err != nil {
		return nil, err
	}
	lines, _ := page(st.Lines, false, toLedgerEntry, nil)
	return api.GetStatement200JSONResponse{
		Period: st.Period, StartsAt: second(st.StartsAt), EndsAt: second(st.EndsAt), Closed: st.Closed,
		CarriedOver: st.Carried, Lines: lines, Balance: st.Balance,
		Used: api.UsageBreakdown{Tts: st.Used.TTS, Stt: st.Used.STT, Llm: st.Used.LLM, Rag: st.Used.RAG},
	}, nil
}

func (s *server) GetSpendLimit(ctx context.Context, _ api.GetSpendLimitRequestObject) (api.GetSpendLimitResponseObject, error) {
	limit, err := s.Credits.OverageLimit(ctx, principalOf(ctx).AccountID)
	return api.GetSpendLimit200JSONResponse{SpendLimitFoundJSONResponse: api.SpendLimitFoundJSONResponse{OverageCredits: limit}}, err
}

func (s *server) SetSpendLimit(ctx context.Context, r api.SetSpendLimitRequestObject) (api.SetSpendLimitResponseObject, error) {
	err := postgres.InTx(ctx, s.Pool, func(tx postgres.Tx) error {
		return s.Credits.SetOverageLimitTx(ctx, tx, principalOf(ctx).AccountID, r.Body.OverageCredits)
	})
	if err != nil {
		return nil, err
	}
	return api.SetSpendLimit200JSONResponse{
		SpendLimitFoundJSONResponse: api.SpendLimitFoundJSONResponse{OverageCredits: r.Body.OverageCredits},
	}, nil
}

func toLedgerEntry(e credits.Entry) api.LedgerEntry {
	entry := api.LedgerEntry{
		ID: e.ID, Type: api.LedgerEntryType(e.Kind), At: second(e.At), Period: e.Period, Credits: e.Credits, Cause: e.Label,
		GrantID: unlessZero(e.GrantID), Reason: unlessZero(e.Reason), ExpiresAt: optionalSecond(e.ExpiresAt),
	}
	if e.Kind == credits.OverageEntry {
		price, amount := dollars(e.UnitMicros), dollars(e.Credits*e.UnitMicros)
		entry.UnitPrice, entry.Amount = &price, &amount
	}
	return entry
}
