package keys

import (
	"context"
	"time"

	"github.com/keymeter/keymeter/gen/queries"
	"github.com/keymeter/keymeter/internal/postgres"
)

type newRow struct {
	Created
	accountID     string
	createdAt     time.Time
	hash          []byte
	pepperVersion int32
}

func insert(ctx context.Context, db queries.DBTX, r newRow) error {
	return queries.New(db).InsertKey(ctx, queries.InsertKeyParams{
		ID: r.ID, AccountID: r.accountID, Hash: r.hash, PepperVersion: r.pepperVersion, Prefix: r.Secret.String(),
		Name: r.Name, CreatedAt: r.createdAt, ExpiresAt: r.ExpiresAt,
	})
}

func list(ctx context.Context, db queries.DBTX, accountID string, limit int, before *string) ([]Key, error) {
	rows, err := queries.New(db).ListKeys(ctx, queries.ListKeysParams{
		AccountID: accountID, Before: before, MaxRows: int32(limit),
	})
	if err != nil {
		return nil, err
	}
	keys := make([]Key, len(rows))
	for i, row := range rows {
		keys[i] = Key(row)
	}
	return keys, nil
}

func exists(ctx context.Context, db queries.DBTX, accountID, id string) (bool, error) {
	return queries.New(db).KeyExists(ctx, queries.KeyExistsParams{AccountID: accountID, ID: id})
}

func revoke(ctx context.Context, db queries.DBTX, accountID, id string, now time.Time) error {
	rows, err := queries.New(db).RevokeKey(ctx, queries.RevokeKeyParams{AccountID: accountID, ID: id, Now: now})
	if err == nil && rows == 0 {
		return ErrNotFound
	}
	return err
}

type lockedRow struct {
	name             string
	expiresAt        *time.Time
	revoked, rotated bool
}

func lock(ctx context.Context, db queries.DBTX, accountID, id string) (lockedRow, error) {
	row, err := queries.New(db).LockKey(ctx, queries.LockKeyParams{AccountID: accountID, ID: id})
	if postgres.NoRows(err) {
		return lockedRow{}, ErrNotFound
	}
	return lockedRow{
		name: row.Name, expiresAt: row.ExpiresAt, revoked: row.RevokedAt != nil, rotated: row.RotatedTo != nil,
	}, err
}

func replace(ctx context.Context, db queries.DBTX, accountID, id, by string, now time.Time) error {
	return queries.New(db).ReplaceKey(ctx, queries.ReplaceKeyParams{AccountID: accountID, ID: id, RotatedTo: by, Now: now})
}

type foundRow struct {
	Identity
	expiresAt          *time.Time
	revoked, suspended bool
}

func find(ctx context.Context, db queries.DBTX, hashes [][]byte) (foundRow, error) {
	row, err := queries.New(db).FindKeyByHash(ctx, hashes)
	if postgres.NoRows(err) {
		return foundRow{}, ErrInvalid
	}
	return foundRow{
		Identity:  Identity{KeyID: row.ID, AccountID: row.AccountID},
		expiresAt: row.ExpiresAt, revoked: row.RevokedAt != nil, suspended: row.SuspendedAt != nil,
	}, err
}

func touch(ctx context.Context, db queries.DBTX, ids []string, at []time.Time) error {
	return queries.New(db).TouchKeys(ctx, queries.TouchKeysParams{Ids: ids, UsedAt: at})
}
