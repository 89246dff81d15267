package httpapi

import (
	"context"
	"time"

	"github.com/keymeter/keymeter/gen/api"
	"github.com/keymeter/keymeter/internal/idempotency"
	"github.com/keymeter/keymeter/internal/keys"
	"github.com/keymeter/keymeter/internal/postgres"
)

// defaultLimit and defaultName are the contract's defaults.
const (
	defaultLimit = 20
	defaultName  = "Default"
)

func (s *server) ListKeys(ctx context.Context, r api.ListKeysRequestObject) (api.ListKeysResponseObject, error) {
	found, more, err := s.Keys.List(ctx, principalOf(ctx).AccountID, limitOf(r.Params.Limit), r.Params.Cursor)
	if err != nil {
		return nil, err
	}
	data, next := page(found, more, toKey, func(k keys.Key) string { return k.ID })
	return api.ListKeys200JSONResponse{Data: data, NextCursor: next, HasMore: more}, nil
}

func (s *server) GetKey(ctx context.Context, r api.GetKeyRequestObject) (api.GetKeyResponseObject, error) {
	key, err := s.Keys.Get(ctx, principalOf(ctx).AccountID, r.KeyID)
	if err != nil {
		return nil, err
	}
	return api.GetKey200JSONResponse{KeyFoundJSONResponse: api.KeyFoundJSONResponse(toKey(key))}, nil
}

func (s *server) CreateKey(ctx context.Context, r api.CreateKeyRequestObject) (api.CreateKeyResponseObject, error) {
	params, err := toCreateParams(r.Body)
	if err != nil {
		return nil, err
	}
	if err := keys.CheckGrant(principalOf(ctx).controls, params.Scopes); err != nil {
		return nil, err
	}
	once := request(ctx, "createKey", r.Params.IdempotencyKey, r.Body)
	created, err := s.createKey(ctx, once, principalOf(ctx).AccountID, params)
	return api.CreateKey201JSONResponse(created), err
}

// createKey creates a key. Only a request that may be repeated needs a transaction.
func (s *server) createKey(
	ctx context.Context, once idempotency.Request, accountID string, params keys.CreateParams,
) (api.CreatedKey, error) {
	if once.Key == "" {
		created, err := s.Keys.Create(ctx, accountID, params)
		return toCreatedKey(created), err
	}
	return idempotency.DoTx(ctx, s.Idempotency, once, func(tx postgres.Tx) (api.CreatedKey, error) {
		if _, err := s.Accounts.GetTx(ctx, tx, accountID); err != nil {
			return api.CreatedKey{}, err
		}
		created, err := s.Keys.CreateTx(ctx, tx, accountID, params)
		return toCreatedKey(created), err
	})
}

func (s *server) UpdateKey(ctx context.Context, r api.UpdateKeyRequestObject) (api.UpdateKeyResponseObject, error) {
	params, err := toUpdateParams(r.Body)
	if err != nil {
		return nil, err
	}
	var key keys.Key
	err = s.takingRights(ctx, func(tx postgres.Tx) (invalidation int64, err error) {
		p := principalOf(ctx)
		key, invalidation, err = s.Keys.UpdateTx(ctx, tx, p.AccountID, r.KeyID, params, p.controls)
		return invalidation, err
	})
	if err != nil {
		return nil, err
	}
	return api.UpdateKey200JSONResponse{KeyFoundJSONResponse: api.KeyFoundJSONResponse(toKey(key))}, nil
}

func (s *server) RevokeKey(ctx context.Context, r api.RevokeKeyRequestObject) (api.RevokeKeyResponseObject, error) {
	err := s.takingRights(ctx, func(tx postgres.Tx) (int64, error) {
		return s.Keys.RevokeTx(ctx, tx, principalOf(ctx).AccountID, r.KeyID)
	})
	if err != nil {
		return nil, err
	}
	return api.RevokeKey204Response{}, nil
}

func (s *server) RotateKey(ctx context.Context, r api.RotateKeyRequestObject) (api.RotateKeyResponseObject, error) {
	var overlap time.Duration
	if r.Body != nil && r.Body.OverlapSeconds != nil {
		overlap = time.Duration(*r.Body.OverlapSeconds) * time.Second
	}
	once := request(ctx, "rotateKey", r.Params.IdempotencyKey, r.KeyID, overlap)
	return doTakingRights(ctx, s, once, func(tx postgres.Tx) (api.RotateKey200JSONResponse, int64, error) {
		created, invalidation, err := s.Keys.RotateTx(ctx, tx, principalOf(ctx).AccountID, r.KeyID, overlap)
		return api.RotateKey200JSONResponse(toRotatedKey(created)), invalidation, err
	})
}

func limitOf(limit *int32) int {
	if limit == nil {
		return defaultLimit
	}
	return int(*limit)
}
