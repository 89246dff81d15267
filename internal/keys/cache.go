package keys

import (
	"encoding/hex"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/maypok86/otter/v2"

	"github.com/keymeter/keymeter/internal/leases"
)

// digest is a key's hash as the cache's key.
type digest [32]byte

// cache keeps entries in memory, bounded in number. What it says may be used only under a lease, see internal/leases:
// who takes a key's or an account's rights away has every server forget it.
//
// There may be a million entries, of which few are in use at once. So most are kept packed, and only the hot ones as they
// are used.
type cache struct {
	entries  *otter.Cache[digest, *packed]
	hot      *otter.Cache[digest, *Known]
	unknown  *otter.Cache[digest, struct{}] // well-formed keys that do not exist; their own space, so that they evict no real ones
	accounts *otter.Cache[string, *KnownAccount]

	// epoch counts the times that everything was forgotten: what was stored before is as good as gone at once.
	epoch atomic.Uint64
	// mu lets an entry be stored only if nothing was invalidated since its row was read: else a lookup that read the
	// row before a revoke could put it back after it.
	mu          sync.RWMutex
	generations uint64
}

// packed is what is known of a key in little memory.
type packed struct {
	id      string
	account *KnownAccount
	rest    *rest // nil for a key of its own family that nothing limits and that does not end
}

type rest struct {
	family string
	Controls
	expiresAt *time.Time
	revoked   bool
}

func pack(e *Known, account *KnownAccount) *packed {
	p := &packed{id: e.KeyID, account: account}
	if e.Family != e.KeyID || e.ExpiresAt != nil || e.revoked || !e.unlimited() {
		p.rest = &rest{family: e.Family, Controls: e.Controls, expiresAt: e.ExpiresAt, revoked: e.revoked}
	}
	return p
}

func (p *packed) unpack(d digest) *Known {
	e := &Known{
		Identity: Identity{KeyID: p.id, AccountID: p.account.ID}, Family: p.id, Account: p.account, digest: d,
	}
	if r := p.rest; r != nil {
		e.Family, e.Controls, e.ExpiresAt, e.revoked = r.family, r.Controls, r.expiresAt, r.revoked
	}
	return e
}

// unlimited reports whether the controls are the zero value.
func (c *Controls) unlimited() bool {
	return !c.Disabled && c.Scopes == nil && c.CreditLimit == nil && c.RateLimit == nil && c.AllowedIPs == nil &&
		c.Metadata == nil
}

// hotSize is how many entries are kept unpacked at most.
const hotSize = 50_000

// unknownSize is how many unknown keys are remembered at most.
const unknownSize = 100_000

func newCache(size int) (*cache, error) {
	c := &cache{}
	var err error
	if c.entries, err = otter.New(&otter.Options[digest, *packed]{MaximumSize: size}); err != nil {
		return nil, err
	}
	if c.hot, err = otter.New(&otter.Options[digest, *Known]{MaximumSize: min(size, hotSize)}); err != nil {
		return nil, err
	}
	if c.unknown, err = otter.New(&otter.Options[digest, struct{}]{MaximumSize: unknownSize}); err != nil {
		return nil, err
	}
	c.accounts, err = otter.New(&otter.Options[string, *KnownAccount]{
		MaximumSize: size,
		// An account that is no longer found by its id can't be invalidated by it: its entries must go with it.
		OnAtomicDeletion: func(e otter.DeletionEvent[string, *KnownAccount]) { e.Value.stale.Store(true) },
	})
	return c, err
}

// get returns what is known of a key. unknown says that it does not exist.
func (c *cache) get(d digest) (e *Known, unknown bool) {
	if e, ok := c.hot.GetIfPresent(d); ok && c.holds(e.Account) {
		return e, false
	}
	if p, ok := c.entries.GetIfPresent(d); ok && c.holds(p.account) {
		return c.heat(d, p), false
	}
	_, unknown = c.unknown.GetIfPresent(d)
	return nil, unknown
}

// holds reports whether what is known of an account and its keys has not been forgotten.
func (c *cache) holds(a *KnownAccount) bool {
	return a.epoch.Load() == c.epoch.Load() && !a.stale.Load()
}

// heat returns an entry as it is used, and keeps it so unless it was forgotten meanwhile.
func (c *cache) heat(d digest, p *packed) *Known {
	e := p.unpack(d)
	c.mu.RLock()
	defer c.mu.RUnlock()
	if now, ok := c.entries.GetIfPresent(d); ok && now == p {
		c.hot.Set(d, e)
	}
	return e
}

// generation is to be taken before a row is read that is then put.
func (c *cache) generation() uint64 {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.generations
}

// put stores what was read of a key, nil if it does not exist, unless something was invalidated since the generation.
func (c *cache) put(d digest, e *Known, generation uint64) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	if generation != c.generations {
		return
	}
	if e == nil {
		c.unknown.Set(d, struct{}{})
		return
	}
	// All entries of an account share what is known of it, so that one mark makes them all stale.
	e.Account.epoch.Store(c.epoch.Load())
	shared, _ := c.accounts.SetIfAbsent(e.Account.ID, e.Account)
	c.entries.Set(d, pack(e, shared))
	c.hot.Invalidate(d)
}

// invalidate forgets a target.
func (c *cache) invalidate(target string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.generations++
	if id, ok := strings.CutPrefix(target, leases.Account("")); ok {
		c.accounts.Invalidate(id)
		return
	}
	var d digest
	if n, err := hex.Decode(d[:], []byte(strings.TrimPrefix(target, leases.Key(nil)))); err == nil && n == len(d) {
		c.entries.Invalidate(d)
		c.hot.Invalidate(d)
		return
	}
	c.resetLocked() // a target of a newer version
}

// reset forgets everything.
func (c *cache) reset() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.generations++
	c.resetLocked()
}

func (c *cache) resetLocked() {
	c.epoch.Add(1)
	c.entries.InvalidateAll()
	c.hot.InvalidateAll()
	c.accounts.InvalidateAll()
	c.unknown.InvalidateAll()
}

// Forget and ForgetAll are for the holder of the lease.

// Forget forgets a target of leases.TakeTx.
func (k *Keys) Forget(target string) { k.cache.invalidate(target) }

// ForgetAll forgets every key.
func (k *Keys) ForgetAll() { k.cache.reset() }
