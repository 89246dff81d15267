// Package ratelimit limits how many requests a subject, an account or a family of keys, may make in a window of time,
// over all replicas.
//
// Windows follow one another from the Unix epoch on. A replica takes a window's tokens from Postgres by the chunk and
// serves calls from the chunk in memory. So no window ever allows more than its limit, and a call is refused although
// tokens are left only if other replicas hold them: at most a chunk each, a twentieth of the limit. A replica that dies
// takes its chunk along.
package ratelimit

import (
	"context"
	"fmt"
	"hash/maphash"
	"time"

	"github.com/keymeter/keymeter/internal/postgres"
)

const (
	// chunksPerLimit is how many chunks a window has. More are fairer between replicas, fewer are fewer queries.
	chunksPerLimit = 20
	// maxWindow is the contract's. A row older than that is of a window that is over, whatever its length.
	maxWindow = 24 * time.Hour
	// takeTimeout is how long Postgres may take to hand out a chunk.
	takeTimeout = 5 * time.Second
	// shards is how many parts the memory has, each with a lock of its own.
	shards = 64
)

// Limit is how many requests a window allows. Window is in whole seconds, at most a day.
type Limit struct {
	Requests int32
	Window   time.Duration
}

func (l Limit) check() error {
	if l.Requests < 1 || l.Window < time.Second || l.Window > maxWindow || l.Window%time.Second != 0 {
		return fmt.Errorf("%d requests in %s is not a rate limit", l.Requests, l.Window)
	}
	return nil
}

func (l Limit) chunk() int64 { return max(1, int64(l.Requests)/chunksPerLimit) }

// Decision is whether a call is within the limit.
type Decision struct {
	Allowed   bool
	Remaining int64         // how many more this replica could allow without asking; all replicas together have at least that
	Reset     time.Duration // until the window ends
}

// Limiter hands out tokens. It is safe for concurrent use.
type Limiter struct {
	pool   *postgres.Pool
	now    func() time.Time
	seed   maphash.Seed
	shards [shards]shard
}

// New returns the limiter of a replica on the database behind pool.
func New(pool *postgres.Pool, now func() time.Time) *Limiter {
	l := &Limiter{pool: pool, now: now, seed: maphash.MakeSeed()}
	for i := range l.shards {
		l.shards[i].windows = map[string]*window{}
	}
	return l
}

// Take takes a token of the subject's current window, if one is left. Most calls are answered from memory: those that a
// chunk in memory suffices for, and those after the window's last token. An error says nothing about the limit.
//
// A lower limit holds from the first call on that brings it: with it, nothing is allowed beyond the larger of itself and
// what had been allowed before. A higher one adds its tokens to the window at once. If a limit rises and falls again in
// one window, a replica that had no call in between may still serve the chunk that it took before; the highest limit of
// the window is kept all the same. Another length of window begins a count of its own.
func (l *Limiter) Take(ctx context.Context, subject string, limit Limit) (Decision, Token, error) {
	if err := limit.check(); err != nil {
		return Decision{}, Token{}, err
	}
	for {
		decision, token, pending := l.try(ctx, subject, limit)
		if pending == nil {
			return decision, token, nil
		}
		select {
		case <-pending.done:
			if pending.err != nil {
				return Decision{}, Token{}, pending.err
			}
		case <-ctx.Done():
			return Decision{}, Token{}, ctx.Err()
		}
	}
}

// try decides from memory. If it can't, it returns the chunk to wait for before the next try.
func (l *Limiter) try(ctx context.Context, subject string, limit Limit) (Decision, Token, *chunk) {
	s := l.shard(subject)
	s.mu.Lock()
	defer s.mu.Unlock()
	now := l.now().UnixNano() // with the lock: whoever waited for it with an older time would end a newer window
	w := s.current(subject, limit, now)
	reset := time.Duration(w.end - now)
	switch {
	case w.left > 0:
		w.left--
		return Decision{Allowed: true, Remaining: w.left, Reset: reset}, Token{window: w}, nil
	case w.exhausted:
		return Decision{Reset: reset}, Token{}, nil
	case w.pending == nil:
		w.pending = &chunk{done: make(chan struct{})}
		// Others wait for the chunk as well, so it must not end with this caller.
		go l.fetch(context.WithoutCancel(ctx), w, w.pending, limit)
	}
	return Decision{}, Token{}, w.pending
}

// chunk is a chunk on its way from Postgres. err is set before done is closed.
type chunk struct {
	done chan struct{}
	err  error
}

// fetch takes a chunk from Postgres and puts it into the window.
func (l *Limiter) fetch(ctx context.Context, w *window, pending *chunk, limit Limit) {
	ctx, cancel := context.WithTimeout(ctx, takeTimeout)
	defer cancel()
	before, err := take(ctx, l.pool, w.subject, time.Unix(0, w.start), limit)
	pending.err = err
	w.shard.mu.Lock()
	if err == nil {
		w.left += max(0, min(limit.chunk(), int64(limit.Requests)-before))
		// The limit may have risen since the question was put.
		w.exhausted = before+limit.chunk() >= int64(limit.Requests) && w.requests == limit.Requests
	}
	w.pending = nil
	w.shard.mu.Unlock()
	close(pending.done)
}

func (l *Limiter) shard(subject string) *shard {
	return &l.shards[maphash.String(l.seed, subject)%shards]
}

// Token is what a call took.
type Token struct{ window *window }

// Return gives back a token whose call was refused for another reason, so that a refused call consumes nothing. Each may
// be given back once. Of a window that is over, or whose limit was lowered since, it is not worth anything any more.
func (l *Limiter) Return(t Token) {
	if t.window == nil {
		return
	}
	t.window.shard.mu.Lock()
	defer t.window.shard.mu.Unlock()
	t.window.left++
}
