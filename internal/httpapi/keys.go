package httpapi

import (
	"context"

	"github.com/keymeter/keymeter/gen/api"
	"github.com/keymeter/keymeter/internal/idempotency"
	"github.com/keymeter/keymeter/internal/keys"
	"github.com/keymeter/keymeter/internal/postgres"
)

// defaultLimit and defaultName are the contract's defaults. The validator fills them in where something was sent at all.
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

func (s *server) CreateKey(ctx context.Context, r api.CreateKeyRequestObject) (api.CreateKeyResponseObject, error) {
	params := toCreateParams(r.Body)
	once := request(ctx, "createKey", r.Params.IdempotencyKey, params)
	return idempotency.DoTx(ctx, s.Idempotency, once, func(tx postgres.Tx) (api.CreateKey201JSONResponse, error) {
		created, err := s.Keys.CreateTx(ctx, tx, principalOf(ctx).AccountID, params)
		return api.CreateKey201JSONResponse(toCreatedKey(created)), err
	})
}

func (s *server) RevokeKey(ctx context.Context, r api.RevokeKeyRequestObject) (api.RevokeKeyResponseObject, error) {
	if err := s.Keys.Revoke(ctx, principalOf(ctx).AccountID, r.KeyID); err != nil {
		return nil, err
	}
	return api.RevokeKey204Response{}, nil
}

func (s *server) RotateKey(ctx context.Context, r api.RotateKeyRequestObject) (api.RotateKeyResponseObject, error) {
	once := request(ctx, "rotateKey", r.Params.IdempotencyKey, r.KeyID)
	return idempotency.DoTx(ctx, s.Idempotency, once, func(tx postgres.Tx) (api.RotateKey200JSONResponse, error) {
		created, err := s.Keys.RotateTx(ctx, tx, principalOf(ctx).AccountID, r.KeyID)
		return api.RotateKey200JSONResponse(toRotatedKey(created)), err
	})
}

func toCreateParams(body *api.CreateKeyRequest) keys.CreateParams {
	params := keys.CreateParams{Name: defaultName}
	if body == nil {
		return params
	}
	if body.Name != nil {
		params.Name = *body.Name
	}
	if body.ExpiresInDays != nil {
		params.ExpiresInDays = int(*body.ExpiresInDays)
	}
	return params
}

func limitOf(limit *int32) int {
	if limit == nil {
		return defaultLimit
	}
	return int(*limit)
}
