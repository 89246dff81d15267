package keys

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/keymeter/keymeter/gen/queries"
	"github.com/keymeter/keymeter/internal/plans"
	"github.com/keymeter/keymeter/internal/postgres"
)

type newRow struct {
	Key
	accountID, family string
	secret            Secret
	hash              []byte
	pepperVersion     int32
}

func insert(ctx context.Context, db queries.DBTX, r newRow) error {
	metadata, err := metadataJSON(r.Metadata)
	if err != nil {
		return err
	}
	requests, seconds := rateColumns(r.RateLimit)
	return queries.New(db).InsertKey(ctx, queries.InsertKeyParams{
		ID: r.ID, AccountID: r.accountID, Hash: r.hash, PepperVersion: r.pepperVersion, Prefix: r.secret.String(),
		Name: r.Name, CreatedAt: r.CreatedAt, ExpiresAt: r.ExpiresAt, Family: r.family, Enabled: !r.Disabled,
		Scopes: scopeTexts(r.Scopes), CreditLimit: r.CreditLimit, RateRequests: requests, RateSeconds: seconds,
		AllowedIps: ipTexts(r.AllowedIPs), Metadata: metadata,
	})
}

// insertPlain inserts keys without controls in one query. Those without an account are errNoAccount.
func insertPlain(ctx context.Context, db queries.DBTX, rows []newRow) ([]error, error) {
	var p queries.InsertPlainKeysParams
	for _, r := range rows {
		p.Ids, p.AccountIds, p.Hashes = append(p.Ids, r.ID), append(p.AccountIds, r.accountID), append(p.Hashes, r.hash)
		p.PepperVersions, p.Prefixes = append(p.PepperVersions, r.pepperVersion), append(p.Prefixes, r.secret.String())
		p.Names, p.CreatedAt = append(p.Names, r.Name), append(p.CreatedAt, r.CreatedAt)
		expiresAt := time.Unix(0, 0)
		if r.ExpiresAt != nil {
			expiresAt = *r.ExpiresAt
		}
		p.ExpiresAt = append(p.ExpiresAt, expiresAt)
	}
	inserted, err := queries.New(db).InsertPlainKeys(ctx, p)
	if err != nil {
		return nil, err
	}
	results := make([]error, len(rows))
	if len(inserted) == len(rows) {
		return results, nil
	}
	for i, r := range rows {
		if !slices.Contains(inserted, r.ID) {
			results[i] = errNoAccount
		}
	}
	return results, nil
}

func update(ctx context.Context, db queries.DBTX, accountID string, k Key) error {
	metadata, err := metadataJSON(k.Metadata)
	if err != nil {
		return err
	}
	requests, seconds := rateColumns(k.RateLimit)
	return queries.New(db).UpdateKey(ctx, queries.UpdateKeyParams{
		AccountID: accountID, ID: k.ID, Name: k.Name, ExpiresAt: k.ExpiresAt, Enabled: !k.Disabled,
		Scopes: scopeTexts(k.Scopes), CreditLimit: k.CreditLimit, RateRequests: requests, RateSeconds: seconds,
		AllowedIps: ipTexts(k.AllowedIPs), Metadata: metadata,
	})
}

func list(
	ctx context.Context, db queries.DBTX, accountID string, limit int, before *string, now time.Time,
) ([]Key, error) {
	rows, err := queries.New(db).ListKeys(ctx, queries.ListKeysParams{
		AccountID: accountID, Before: before, MaxRows: int32(limit), Now: now,
	})
	if err != nil {
		return nil, err
	}
	keys := make([]Key, len(rows))
	for i, row := range rows {
		if keys[i], err = keyFrom(row); err != nil {
			return nil, err
		}
	}
	return keys, nil
}

func get(ctx context.Context, db queries.DBTX, accountID, id string) (Key, error) {
	row, err := queries.New(db).GetKey(ctx, queries.GetKeyParams{AccountID: accountID, ID: id})
	if postgres.NoRows(err) {
		return Key{}, ErrNotFound
	}
	if err != nil {
		return Key{}, err
	}
	return keyFrom(row)
}

func exists(ctx context.Context, db queries.DBTX, accountID, id string) (bool, error) {
	return queries.New(db).KeyExists(ctx, queries.KeyExistsParams{AccountID: accountID, ID: id})
}

// revoke returns the hash of the key that it revoked.
func revoke(ctx context.Context, db queries.DBTX, accountID, id string, now time.Time) ([]byte, error) {
	hash, err := queries.New(db).RevokeKey(ctx, queries.RevokeKeyParams{AccountID: accountID, ID: id, Now: now})
	if postgres.NoRows(err) {
		return nil, ErrNotFound
	}
	return hash, err
}

type lockedRow struct {
	Key
	family           string
	hash             []byte
	revoked, rotated bool
}

func lock(ctx context.Context, db queries.DBTX, accountID, id string) (lockedRow, error) {
	row, err := queries.New(db).LockKey(ctx, queries.LockKeyParams{AccountID: accountID, ID: id})
	if postgres.NoRows(err) {
		return lockedRow{}, ErrNotFound
	}
	if err != nil {
		return lockedRow{}, err
	}
	key, err := keyFrom(row)
	return lockedRow{
		Key: key, family: row.Family, hash: row.Hash, revoked: row.RevokedAt != nil, rotated: row.RotatedTo != nil,
	}, err
}

func replace(ctx context.Context, db queries.DBTX, accountID, id, by string, revokedAt, expiresAt *time.Time) error {
	return queries.New(db).ReplaceKey(ctx, queries.ReplaceKeyParams{
		AccountID: accountID, ID: id, RotatedTo: by, RevokedAt: revokedAt, ExpiresAt: expiresAt,
	})
}

// find returns what is known of the keys with the hashes.
func find(ctx context.Context, db queries.DBTX, hashes [][]byte) (map[digest]*Known, error) {
	rows, err := queries.New(db).FindKeysByHash(ctx, hashes)
	if err != nil {
		return nil, err
	}
	found := make(map[digest]*Known, len(rows))
	for _, row := range rows {
		controls, err := controlsFrom(row.Enabled, row.Scopes, row.CreditLimit, row.RateRequests, row.RateSeconds,
			row.AllowedIps, row.Metadata)
		if err != nil {
			return nil, fmt.Errorf("key %s: %w", row.ID, err)
		}
		d := digest(row.Hash)
		found[d] = &Known{
			Identity: Identity{KeyID: row.ID, AccountID: row.AccountID}, Family: row.Family, Controls: controls,
			ExpiresAt: row.ExpiresAt, revoked: row.RevokedAt != nil, digest: d,
			Account: &KnownAccount{
				ID: row.AccountID, Tier: plans.Tier(row.Tier), suspended: row.SuspendedAt != nil,
				RateLimit: rateFrom(row.AccountRateRequests, row.AccountRateSeconds),
			},
		}
	}
	return found, nil
}

func touch(ctx context.Context, db queries.DBTX, ids []string, at []time.Time) error {
	return queries.New(db).TouchKeys(ctx, queries.TouchKeysParams{Ids: ids, UsedAt: at})
}

func keyFrom(row queries.APIKey) (Key, error) {
	controls, err := controlsFrom(row.Enabled, row.Scopes, row.CreditLimit, row.RateRequests, row.RateSeconds,
		row.AllowedIps, row.Metadata)
	if err != nil {
		return Key{}, fmt.Errorf("key %s: %w", row.ID, err)
	}
	return Key{
		ID: row.ID, Name: row.Name, Prefix: row.Prefix, CreatedAt: row.CreatedAt, ExpiresAt: row.ExpiresAt,
		LastUsedAt: row.LastUsedAt, Controls: controls,
	}, nil
}

func controlsFrom(
	enabled bool, scopes []string, creditLimit *int64, requests, seconds *int32, ips []string, metadata []byte,
) (Controls, error) {
	c := Controls{Disabled: !enabled, CreditLimit: creditLimit, RateLimit: rateFrom(requests, seconds)}
	if scopes != nil {
		c.Scopes = make([]Scope, len(scopes))
		for i, s := range scopes {
			c.Scopes[i] = Scope(s)
		}
	}
	if ips != nil {
		var err error
		if c.AllowedIPs, err = ParseIPs("allowedIps", ips); err != nil {
			return Controls{}, err
		}
	}
	if metadata == nil {
		return c, nil
	}
	return c, json.Unmarshal(metadata, &c.Metadata)
}

func scopeTexts(scopes []Scope) []string {
	if scopes == nil {
		return nil
	}
	texts := make([]string, len(scopes))
	for i, s := range scopes {
		texts[i] = string(s)
	}
	return texts
}

func rateColumns(r *RateLimit) (requests, seconds *int32) {
	if r == nil {
		return nil, nil
	}
	n := int32(r.Window / time.Second)
	return &r.Requests, &n
}

func rateFrom(requests, seconds *int32) *RateLimit {
	if requests == nil || seconds == nil {
		return nil
	}
	return &RateLimit{Requests: *requests, Window: time.Duration(*seconds) * time.Second}
}

func metadataJSON(metadata map[string]string) ([]byte, error) {
	if metadata == nil {
		return nil, nil
	}
	return json.Marshal(metadata)
}
