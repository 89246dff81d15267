package httpapi

import (
	"context"

	"github.com/keymeter/keymeter/gen/api"
	"github.com/keymeter/keymeter/internal/accounts"
	"github.com/keymeter/keymeter/internal/idempotency"
	"github.com/keymeter/keymeter/internal/keys"
	"github.com/keymeter/keymeter/internal/plans"
	"github.com/keymeter/keymeter/internal/postgres"
)

func (s *server) ListAccounts(ctx context.Context, r api.ListAccountsRequestObject) (api.ListAccountsResponseObject, error) {
	found, more, err := s.Accounts.List(ctx, accounts.ListParams{
		Limit: limitOf(r.Params.Limit), Cursor: r.Params.Cursor, ExternalID: r.Params.ExternalID,
	})
	if err != nil {
		return nil, err
	}
	data, next := page(found, more, toAccount, func(a accounts.Account) string { return a.ID })
	return api.ListAccounts200JSONResponse{Data: data, NextCursor: next, HasMore: more}, nil
}

func (s *server) CreateAccount(ctx context.Context, r api.CreateAccountRequestObject) (api.CreateAccountResponseObject, error) {
	params := accounts.CreateParams{Name: r.Body.Name, ExternalID: r.Body.ExternalID, Email: r.Body.Email}
	once := request(ctx, "createAccount", r.Params.IdempotencyKey, params)
	return idempotency.DoTx(ctx, s.Idempotency, once, func(tx postgres.Tx) (api.CreateAccount201JSONResponse, error) {
		account, err := s.Accounts.CreateTx(ctx, tx, params)
		return api.CreateAccount201JSONResponse(toAccount(account)), err
	})
}

func (s *server) GetAccount(ctx context.Context, r api.GetAccountRequestObject) (api.GetAccountResponseObject, error) {
	account, err := s.Accounts.Get(ctx, r.AccountID)
	if err != nil {
		return nil, err
	}
	return api.GetAccount200JSONResponse{AccountFoundJSONResponse: api.AccountFoundJSONResponse(toAccount(account))}, nil
}

func (s *server) CreateAccountKey(
	ctx context.Context, r api.CreateAccountKeyRequestObject,
) (api.CreateAccountKeyResponseObject, error) {
	params, err := toCreateParams(r.Body)
	if err != nil {
		return nil, err
	}
	once := request(ctx, "createAccountKey", r.Params.IdempotencyKey, r.AccountID, r.Body)
	created, err := s.createKey(ctx, once, r.AccountID, params)
	return api.CreateAccountKey201JSONResponse(created), err
}

func (s *server) SuspendAccount(
	ctx context.Context, r api.SuspendAccountRequestObject,
) (api.SuspendAccountResponseObject, error) {
	once := request(ctx, "suspendAccount", r.Params.IdempotencyKey, r.AccountID)
	account, err := s.changeAccount(ctx, once, func(tx postgres.Tx) (accounts.Account, int64, error) {
		return s.Accounts.SuspendTx(ctx, tx, r.AccountID)
	})
	return api.SuspendAccount200JSONResponse{AccountFoundJSONResponse: account}, err
}

func (s *server) ResumeAccount(
	ctx context.Context, r api.ResumeAccountRequestObject,
) (api.ResumeAccountResponseObject, error) {
	once := request(ctx, "resumeAccount", r.Params.IdempotencyKey, r.AccountID)
	account, err := s.changeAccount(ctx, once, func(tx postgres.Tx) (accounts.Account, int64, error) {
		return s.Accounts.ResumeTx(ctx, tx, r.AccountID)
	})
	return api.ResumeAccount200JSONResponse{AccountFoundJSONResponse: account}, err
}

func (s *server) changeAccount(
	ctx context.Context, once idempotency.Request, change func(tx postgres.Tx) (accounts.Account, int64, error),
) (api.AccountFoundJSONResponse, error) {
	return doTakingRights(ctx, s, once, func(tx postgres.Tx) (api.AccountFoundJSONResponse, int64, error) {
		account, invalidation, err := change(tx)
		return api.AccountFoundJSONResponse(toAccount(account)), invalidation, err
	})
}

func (s *server) SetAccountTier(
	ctx context.Context, r api.SetAccountTierRequestObject,
) (api.SetAccountTierResponseObject, error) {
	var account accounts.Account
	err := s.takingRights(ctx, func(tx postgres.Tx) (invalidation int64, err error) {
		account, invalidation, err = s.Billing.SetTierTx(ctx, tx, r.AccountID, plans.Tier(r.Body.Tier))
		return invalidation, err
	})
	if err != nil {
		return nil, err
	}
	return api.SetAccountTier200JSONResponse{AccountFoundJSONResponse: api.AccountFoundJSONResponse(toAccount(account))}, nil
}

func (s *server) SetAccountRateLimit(
	ctx context.Context, r api.SetAccountRateLimitRequestObject,
) (api.SetAccountRateLimitResponseObject, error) {
	var limit keys.RateLimit
	if given := fromRateLimit(r.Body.RateLimit); given != nil {
		limit = *given
	}
	err := s.takingRights(ctx, func(tx postgres.Tx) (invalidation int64, err error) {
		return s.Accounts.SetRateLimitTx(ctx, tx, r.AccountID, limit.Requests, limit.Window)
	})
	if err != nil {
		return nil, err
	}
	return api.SetAccountRateLimit200JSONResponse{RateLimit: r.Body.RateLimit}, nil
}
