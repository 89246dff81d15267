// Package keys is the life of an API key: create, list, change, rotate, revoke, and tell what a presented key may do.
package keys

import (
	"context"
	"io"
	"time"

	"github.com/keymeter/keymeter/internal/fault"
	"github.com/keymeter/keymeter/internal/ids"
	"github.com/keymeter/keymeter/internal/leases"
	"github.com/keymeter/keymeter/internal/postgres"
)

// The refusals of this package. A revoked key and another account's are as good as absent.
var (
	errNoAccount      = fault.New(fault.NotFound, "account_not_found", "There is no such account.")
	ErrNotFound       = fault.New(fault.NotFound, "key_not_found", "There is no such key.")
	ErrAlreadyRotated = fault.New(fault.Conflict, "key_already_rotated", "The key has been rotated already.")
	ErrExpired        = fault.New(fault.Conflict, "key_expired", "The key has expired. Create a new one instead.")
	ErrInvalid        = fault.New(fault.Unauthenticated, "invalid_credential", "The credential is not valid.")
	ErrSuspended      = fault.New(fault.Denied, "account_suspended", "The account is suspended.")
	ErrScope          = fault.New(fault.Denied, "insufficient_scope", "The key's scopes do not cover this.")
)

// Key is a key as its owner sees it: without the raw value.
type Key struct {
	ID, Name, Prefix      string
	CreatedAt             time.Time
	ExpiresAt, LastUsedAt *time.Time
	Controls
}

// Created is a key that was just made, with its raw value.
type Created struct {
	ID, Name  string
	Secret    Secret
	ExpiresAt *time.Time
}

// Config is what Keys works with.
type Config struct {
	Pool    *postgres.Pool
	Hot     *postgres.Pool // what a verify waits for goes through it
	IDs     *ids.Source
	Now     func() time.Time
	Rand    io.Reader // must be cryptographically secure
	Format  Format
	Peppers *Peppers
	// CacheSize is how many keys are kept in memory at most.
	CacheSize int
	// Leased reports whether this server may answer from memory now, see internal/leases. Nil is never.
	Leased func() bool
}

// Keys creates, lists, changes, rotates, revokes and recognises keys.
type Keys struct {
	Config
	lastUsed  lastUsed
	cache     *cache
	lookups   group[[][]byte, *Known] // by the hashes of one key, under each pepper
	creations group[newRow, error]    // what became of it
}

// New returns the keys in the database behind cfg.Pool.
func New(cfg Config) (*Keys, error) {
	cache, err := newCache(cfg.CacheSize)
	if err != nil {
		return nil, err
	}
	k := &Keys{Config: cfg, cache: cache}
	k.lookups.parallel, k.lookups.query = maxLookups, k.lookUp
	k.creations.parallel, k.creations.query = maxCreations, k.insertAll
	return k, nil
}

// CreateParams describes a key to create. ExpiresInDays 0 means that it does not expire.
type CreateParams struct {
	Name          string
	ExpiresInDays int
	Controls
}

const day = 24 * time.Hour

// List returns a page of an account's keys that are not revoked, newest first, and whether there are more. cursor is
// the id of the last key of the page before, or nil; that key may have been revoked since.
func (k *Keys) List(ctx context.Context, accountID string, limit int, cursor *string) (page []Key, more bool, err error) {
	if cursor != nil {
		known, err := exists(ctx, k.Pool, accountID, *cursor)
		if err != nil {
			return nil, false, err
		}
		if !known {
			return nil, false, fault.InvalidField("cursor", "is not the id of a key of this account")
		}
	}
	rows, err := list(ctx, k.Pool, accountID, limit+1, cursor, k.Now())
	if err != nil || len(rows) <= limit {
		return rows, false, err
	}
	return rows[:limit], true, nil
}

// Get returns a key that is not revoked.
func (k *Keys) Get(ctx context.Context, accountID, id string) (Key, error) {
	return get(ctx, k.Pool, accountID, id)
}

// RevokeTx revokes a key. It is refused from the commit on by whoever reads the database, and by everybody once the
// invalidation that it returns has been waited for. A key that is revoked already is ErrNotFound.
func (k *Keys) RevokeTx(ctx context.Context, tx postgres.Tx, accountID, id string) (invalidation int64, err error) {
	hash, err := revoke(ctx, tx, accountID, id, k.Now())
	if err != nil {
		return 0, err
	}
	return leases.TakeTx(ctx, tx, leases.Key(hash))
}

// UpdateTx changes a key. by are the controls of the key that asks for it, which can't give what it does not have. The
// change is in force everywhere once the invalidation has been waited for.
func (k *Keys) UpdateTx(
	ctx context.Context, tx postgres.Tx, accountID, id string, p UpdateParams, by Controls,
) (key Key, invalidation int64, err error) {
	row, err := lock(ctx, tx, accountID, id)
	switch {
	case err != nil:
		return Key{}, 0, err
	case row.revoked:
		return Key{}, 0, ErrNotFound
	case p.Scopes.Set && !by.covers(p.Scopes.Value):
		return Key{}, 0, ErrScope
	}
	p.apply(&row.Key)
	if err := update(ctx, tx, accountID, row.Key); err != nil {
		return Key{}, 0, err
	}
	invalidation, err = leases.TakeTx(ctx, tx, leases.Key(row.hash))
	return row.Key, invalidation, err
}

// CheckGrant refuses a key that is to make one which may do more than itself.
func CheckGrant(by Controls, scopes []Scope) error {
	if !by.covers(scopes) {
		return ErrScope
	}
	return nil
}

// RotateTx puts a new key in the place of an old one, with its name, limits and expiry. The old one ends at once or,
// with an overlap, after it, but no later than it would have. Whoever reads the database sees the change whole.
func (k *Keys) RotateTx(
	ctx context.Context, tx postgres.Tx, accountID, id string, overlap time.Duration,
) (created Created, invalidation int64, err error) {
	old, err := lock(ctx, tx, accountID, id)
	if err != nil {
		return Created{}, 0, err
	}
	now := k.Now()
	switch {
	case old.rotated:
		return Created{}, 0, ErrAlreadyRotated
	case old.revoked:
		return Created{}, 0, ErrNotFound
	case expired(old.ExpiresAt, now):
		return Created{}, 0, ErrExpired
	}
	next := old.Key
	next.ID, next.CreatedAt, next.LastUsedAt = k.IDs.New("key"), now, nil
	row, created, err := k.secretFor(accountID, next, old.family)
	if err != nil {
		return Created{}, 0, err
	}
	if err := insert(ctx, tx, row); err != nil {
		return Created{}, 0, err
	}
	end := old.ExpiresAt
	var revokedAt *time.Time
	if until := now.Add(overlap); overlap == 0 {
		revokedAt = &now
	} else if end == nil || until.Before(*end) {
		end = &until
	}
	if err := replace(ctx, tx, accountID, id, created.ID, revokedAt, end); err != nil {
		return Created{}, 0, err
	}
	invalidation, err = leases.TakeTx(ctx, tx, leases.Key(old.hash))
	return created, invalidation, err
}

// Identity is whose a key is.
type Identity struct{ KeyID, AccountID string }

// Authenticate tells whose a raw key is and what it may do, and notes that it was used. Unknown, mistyped, revoked,
// expired and disabled keys are all ErrInvalid. It reads the committed state at every call: it is for the management
// of keys, not for the hot path.
func (k *Keys) Authenticate(ctx context.Context, raw string) (Identity, Controls, error) {
	secret, ok := k.Format.parse(raw)
	if !ok {
		return Identity{}, Controls{}, ErrInvalid
	}
	e, err := k.lookups.do(ctx, k.Peppers.hashes(secret))
	if err != nil {
		return Identity{}, Controls{}, err
	}
	now := k.Now()
	switch {
	case e == nil, e.revoked, e.expired(now), e.Disabled:
		return Identity{}, Controls{}, ErrInvalid
	case e.Account.suspended:
		return Identity{}, Controls{}, ErrSuspended
	}
	k.lastUsed.note(e.KeyID, now)
	return e.Identity, e.Controls, nil
}

func expired(at *time.Time, now time.Time) bool { return at != nil && !now.Before(*at) }
