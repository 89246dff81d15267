// Package idempotency lets a caller repeat a request without its effect: under an Idempotency-Key the first answer is
// kept for a day and given again.
//
// A kept answer may hold a raw API key, so it is sealed: encrypted under a key that is derived from the pepper, which
// is not in the database, and from the caller's Idempotency-Key, which is in the database only as a keyed hash. Whoever
// has the database and even the pepper still lacks what opens an answer.
package idempotency

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/keymeter/keymeter/internal/fault"
	"github.com/keymeter/keymeter/internal/postgres"
)

// Lifetime is how long an answer is kept.
const Lifetime = 24 * time.Hour

// claimLifetime is how long a request that is not one transaction may run before its claim is taken over.
const claimLifetime = time.Minute

// The refusals of this package.
var (
	ErrReused = fault.New(fault.Mismatch, "idempotency_key_reused",
		"This Idempotency-Key was used before with another request.")
	ErrInProgress = fault.New(fault.Conflict, "idempotency_in_progress",
		"A request with this Idempotency-Key is still running.")
)

// Request identifies a request. Key is the caller's Idempotency-Key, "" for none; Scope is whose it is. Content is
// everything that makes two requests the same.
type Request struct {
	Scope, Key string
	Content    any
}

// Keeper keeps answers.
type Keeper struct {
	pool   *postgres.Pool
	now    func() time.Time
	rand   io.Reader
	pepper []byte
}

// New returns a keeper with the database behind pool. rand must be cryptographically secure.
func New(pool *postgres.Pool, now func() time.Time, rand io.Reader, pepper []byte) *Keeper {
	return &Keeper{pool: pool, now: now, rand: rand, pepper: pepper}
}

// DoTx runs fn in a transaction, in which its answer is kept as well: either both happen or neither. A repeated
// request gets the kept answer and fn is not run. An error of fn is not kept, as it left nothing behind.
func DoTx[T any](ctx context.Context, k *Keeper, r Request, fn func(tx postgres.Tx) (T, error)) (T, error) {
	var answer T
	err := postgres.InTx(ctx, k.pool, func(tx postgres.Tx) error {
		if r.Key == "" {
			var err error
			answer, err = fn(tx)
			return err
		}
		entry, err := k.entry(r)
		if err != nil {
			return err
		}
		// Of two at the same time the second waits here until the first has committed, or has not.
		claimed, err := claim(ctx, tx, entry, nil)
		if err != nil {
			return err
		}
		if !claimed {
			return k.replay(ctx, tx, entry, &answer)
		}
		if answer, err = fn(tx); err != nil {
			return err
		}
		return k.keep(ctx, tx, entry, answer)
	})
	return answer, err
}

// Do runs fn, which works on something else than our database, and then keeps its answer. While it runs, a request
// with the same key is ErrInProgress; if this process dies the claim runs out. fn may so be run again, and must pass on
// an idempotency key of its own.
func Do[T any](ctx context.Context, k *Keeper, r Request, fn func() (T, error)) (T, error) {
	if r.Key == "" {
		return fn()
	}
	var answer T
	entry, err := k.entry(r)
	if err != nil {
		return answer, err
	}
	until := k.now().Add(claimLifetime).Truncate(time.Microsecond) // what Postgres stores
	claimed, err := claim(ctx, k.pool, entry, &until)
	if err != nil {
		return answer, err
	}
	if !claimed {
		return answer, k.replay(ctx, k.pool, entry, &answer)
	}
	if answer, err = fn(); err != nil {
		// The caller may be gone already; the claim goes all the same.
		return answer, errors.Join(err, release(context.WithoutCancel(ctx), k.pool, entry, until))
	}
	return answer, k.keep(context.WithoutCancel(ctx), k.pool, entry, answer)
}

// Forget deletes the answers that have been kept for their lifetime.
func (k *Keeper) Forget(ctx context.Context) error {
	return forget(ctx, k.pool, k.now().Add(-Lifetime))
}

// entry is a request as it is stored, and the cipher for its answer.
type entry struct {
	scope                string
	keyHash, fingerprint []byte
	now, oldest          time.Time
	seal                 cipher.AEAD
}

func (k *Keeper) entry(r Request) (entry, error) {
	content, err := json.Marshal(r.Content)
	if err != nil {
		return entry{}, fmt.Errorf("encode the request: %w", err)
	}
	seal, err := k.cipher(r)
	if err != nil {
		return entry{}, err
	}
	now := k.now()
	fingerprint := k.mac("fingerprint", r.Key, string(content))
	return entry{
		scope: r.Scope, keyHash: k.mac("key", r.Scope, r.Key), fingerprint: fingerprint,
		now: now, oldest: now.Add(-Lifetime), seal: seal,
	}, nil
}

func (k *Keeper) cipher(r Request) (cipher.AEAD, error) {
	key, err := hkdf.Key(sha256.New, append([]byte(r.Key), k.pepper...), []byte(r.Scope), "keymeter idempotency answer", 32)
	if err != nil {
		return nil, err
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}

// mac is a keyed hash, so that what it hides can't be guessed from the database.
func (k *Keeper) mac(purpose string, parts ...string) []byte {
	mac := hmac.New(sha256.New, k.pepper)
	_, _ = fmt.Fprintf(mac, "keymeter idempotency %s %q", purpose, parts)
	return mac.Sum(nil)
}

func (k *Keeper) keep(ctx context.Context, db dbtx, e entry, answer any) error {
	plain, err := json.Marshal(answer)
	if err != nil {
		return fmt.Errorf("encode the answer: %w", err)
	}
	nonce := make([]byte, e.seal.NonceSize())
	if _, err := io.ReadFull(k.rand, nonce); err != nil {
		return fmt.Errorf("read randomness: %w", err)
	}
	return keepAnswer(ctx, db, e, e.seal.Seal(nonce, nonce, plain, e.fingerprint))
}

func (k *Keeper) replay(ctx context.Context, db dbtx, e entry, answer any) error {
	stored, err := find(ctx, db, e)
	switch {
	case err != nil:
		return err
	case !hmac.Equal(stored.fingerprint, e.fingerprint):
		return ErrReused
	case stored.answer == nil:
		return ErrInProgress
	}
	size := e.seal.NonceSize()
	if len(stored.answer) < size {
		return errors.New("a kept answer is too short")
	}
	plain, err := e.seal.Open(nil, stored.answer[:size], stored.answer[size:], e.fingerprint)
	if err != nil {
		return fmt.Errorf("open a kept answer: %w", err)
	}
	return json.Unmarshal(plain, answer)
}
