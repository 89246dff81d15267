// Package keys is the life of an API key: create, list, rotate, revoke, and tell whose a presented key is.
package keys

import (
	"context"
	"io"
	"time"

	"github.com/keymeter/keymeter/internal/fault"
	"github.com/keymeter/keymeter/internal/ids"
	"github.com/keymeter/keymeter/internal/postgres"
)

// The refusals of this package. A revoked key and another account's are as good as absent.
var (
	ErrNotFound       = fault.New(fault.NotFound, "key_not_found", "There is no such key.")
	ErrAlreadyRotated = fault.New(fault.Conflict, "key_already_rotated", "The key has been rotated already.")
	ErrExpired        = fault.New(fault.Conflict, "key_expired", "The key has expired. Create a new one instead.")
	ErrInvalid        = fault.New(fault.Unauthenticated, "invalid_credential", "The credential is not valid.")
	ErrSuspended      = fault.New(fault.Denied, "account_suspended", "The account is suspended.")
)

// Key is a key as its owner sees it: without the raw value.
type Key struct {
	ID, Name, Prefix      string
	CreatedAt             time.Time
	ExpiresAt, LastUsedAt *time.Time
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
	IDs     *ids.Source
	Now     func() time.Time
	Rand    io.Reader // must be cryptographically secure
	Format  Format
	Peppers *Peppers
}

// Keys creates, lists, rotates, revokes and recognises keys.
type Keys struct {
	Config
	lastUsed lastUsed
}

// New returns the keys in the database behind cfg.Pool.
func New(cfg Config) *Keys { return &Keys{Config: cfg} }

// CreateParams describes a key to create. ExpiresInDays 0 means that it does not expire.
type CreateParams struct {
	Name          string
	ExpiresInDays int
}

const day = 24 * time.Hour

// CreateTx creates a key for an account that exists.
func (k *Keys) CreateTx(ctx context.Context, tx postgres.Tx, accountID string, p CreateParams) (Created, error) {
	now := k.Now()
	var expiresAt *time.Time
	if p.ExpiresInDays > 0 {
		at := now.Add(time.Duration(p.ExpiresInDays) * day).Truncate(time.Second)
		expiresAt = &at
	}
	return k.insertTx(ctx, tx, accountID, p.Name, now, expiresAt)
}

func (k *Keys) insertTx(
	ctx context.Context, tx postgres.Tx, accountID, name string, now time.Time, expiresAt *time.Time,
) (Created, error) {
	secret, err := k.Format.mint(k.Rand)
	if err != nil {
		return Created{}, err
	}
	created := Created{ID: k.IDs.New("key"), Name: name, Secret: secret, ExpiresAt: expiresAt}
	return created, insert(ctx, tx, newRow{
		Created: created, accountID: accountID, createdAt: now,
		hash: k.Peppers.hash(k.Peppers.current, secret), pepperVersion: k.Peppers.current,
	})
}

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
	rows, err := list(ctx, k.Pool, accountID, limit+1, cursor)
	if err != nil || len(rows) <= limit {
		return rows, false, err
	}
	return rows[:limit], true, nil
}

// Revoke revokes a key. It is refused from the commit on. A key that is revoked already is ErrNotFound.
func (k *Keys) Revoke(ctx context.Context, accountID, id string) error {
	return revoke(ctx, k.Pool, accountID, id, k.Now())
}

// RotateTx puts a new key in the place of an old one, with its name and expiry. Whoever reads the database sees one
// of the two valid, never both and never neither.
func (k *Keys) RotateTx(ctx context.Context, tx postgres.Tx, accountID, id string) (Created, error) {
	old, err := lock(ctx, tx, accountID, id)
	if err != nil {
		return Created{}, err
	}
	now := k.Now()
	switch {
	case old.rotated:
		return Created{}, ErrAlreadyRotated
	case old.revoked:
		return Created{}, ErrNotFound
	case expired(old.expiresAt, now):
		return Created{}, ErrExpired
	}
	created, err := k.insertTx(ctx, tx, accountID, old.name, now, old.expiresAt)
	if err != nil {
		return Created{}, err
	}
	return created, replace(ctx, tx, accountID, id, created.ID, now)
}

// Identity is whose a key is.
type Identity struct{ KeyID, AccountID string }

// Authenticate tells whose a raw key is and notes that it was used. Unknown, mistyped, revoked and expired keys are all
// ErrInvalid. It reads the committed state at every call, so that a revoked key is never accepted again.
func (k *Keys) Authenticate(ctx context.Context, raw string) (Identity, error) {
	secret, ok := k.Format.parse(raw)
	if !ok {
		return Identity{}, ErrInvalid
	}
	row, err := find(ctx, k.Pool, k.Peppers.hashes(secret))
	if err != nil {
		return Identity{}, err
	}
	now := k.Now()
	switch {
	case row.revoked, expired(row.expiresAt, now):
		return Identity{}, ErrInvalid
	case row.suspended:
		return Identity{}, ErrSuspended
	}
	k.lastUsed.note(row.KeyID, now)
	return row.Identity, nil
}

func expired(at *time.Time, now time.Time) bool { return at != nil && !now.Before(*at) }
