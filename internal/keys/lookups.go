package keys

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/keymeter/keymeter/internal/postgres"
)

const (
	// maxLookups is how many queries for keys run at once, maxLookupBatch how many keys one asks for.
	maxLookups     = 4
	maxLookupBatch = 500
	lookupTimeout  = 5 * time.Second
)

// lookups turn concurrent look-ups of keys into few queries. Nobody waits for company: what comes while a query runs
// goes into the next. There is no goroutine of its own: one of the callers leads.
type lookups struct {
	pool *postgres.Pool

	mu      sync.Mutex
	running int
	waiting []*lookup
}

type lookup struct {
	hashes [][]byte // of one key, under each pepper
	lead   chan struct{}
	done   chan lookupResult
}

type lookupResult struct {
	known *Known
	err   error
}

func newLookups(pool *postgres.Pool) *lookups { return &lookups{pool: pool} }

// find returns what the database knows of a key, nil if nothing.
func (l *lookups) find(ctx context.Context, hashes [][]byte) (*Known, error) {
	own := &lookup{hashes: hashes, lead: make(chan struct{}, 1), done: make(chan lookupResult, 1)}
	if !l.join(own) {
		l.run(ctx, own)
	}
	for {
		select {
		case r := <-own.done:
			return r.known, r.err
		case <-own.lead:
			l.run(ctx, own)
		case <-ctx.Done():
			if l.leave(own) {
				return nil, ctx.Err()
			}
			// It is in a query already, or is to lead: either comes at once or within the query's time.
			select {
			case r := <-own.done:
				return r.known, r.err
			case <-own.lead:
				l.run(context.WithoutCancel(ctx), own)
			}
		}
	}
}

// join reports whether own waits for another to lead; if not, it leads.
func (l *lookups) join(own *lookup) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.running < maxLookups {
		l.running++
		return false
	}
	l.waiting = append(l.waiting, own)
	return true
}

func (l *lookups) leave(own *lookup) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	i := slices.Index(l.waiting, own)
	if i < 0 {
		return false
	}
	l.waiting = slices.Delete(l.waiting, i, i+1)
	return true
}

// run asks for own and for all who wait, and hands the lead on.
func (l *lookups) run(ctx context.Context, own *lookup) {
	batch := append([]*lookup{own}, l.take(maxLookupBatch-1)...)
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), lookupTimeout) // it is for the others too
	defer cancel()
	var hashes [][]byte
	for _, each := range batch {
		hashes = append(hashes, each.hashes...)
	}
	found, err := find(ctx, l.pool, hashes)
	for _, each := range batch {
		result := lookupResult{err: err}
		for _, hash := range each.hashes {
			if known, ok := found[digest(hash)]; ok {
				result.known = known
			}
		}
		each.done <- result
	}
	l.handOn()
}

func (l *lookups) take(n int) []*lookup {
	l.mu.Lock()
	defer l.mu.Unlock()
	n = min(n, len(l.waiting))
	taken := slices.Clone(l.waiting[:n])
	l.waiting = slices.Delete(l.waiting, 0, n)
	return taken
}

func (l *lookups) handOn() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.waiting) == 0 {
		l.running--
		return
	}
	l.waiting[0].lead <- struct{}{}
	l.waiting = slices.Delete(l.waiting, 0, 1)
}
