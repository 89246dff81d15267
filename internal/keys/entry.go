package keys

import (
	"sync/atomic"
	"time"

	"github.com/keymeter/keymeter/internal/plans"
)

// Known is what is known of a key, decoded once. It does not change: what changes gets a new one.
type Known struct {
	Identity
	Family string // of the chain of rotations that the key belongs to: its keys share their limits
	Controls
	ExpiresAt *time.Time
	Account   *KnownAccount
	// Rendering is for the edge, to keep what it makes of the key.
	Rendering atomic.Pointer[[]byte]

	digest  digest
	revoked bool
}

// KnownAccount is what is known of a key's account, shared by what is known of its keys.
type KnownAccount struct {
	ID        string
	Tier      plans.Tier
	RateLimit *RateLimit

	suspended bool
	// stale is set when something about the account has changed: what is known of its keys is as good as forgotten.
	stale atomic.Bool
	// epoch is the cache's, when it was stored.
	epoch atomic.Uint64
}

func (k *Known) expired(now time.Time) bool { return expired(k.ExpiresAt, now) }
