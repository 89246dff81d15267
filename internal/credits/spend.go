package credits

import (
	"context"
	"errors"
	"hash/maphash"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/keymeter/keymeter/internal/fault"
	"github.com/keymeter/keymeter/internal/postgres"
)

const (
	// workers commit batches, each its own accounts. Two, so that one prepares while the other waits for the disk.
	workers = 2
	// maxBatch is the number of events after which no further submission joins a batch. It bounds how long one waits
	// for the others.
	maxBatch = 1000
	// maxWaiting is the number of events that may wait for a worker: about a second's work.
	maxWaiting = 20 * maxBatch
	// batchTimeout is for a database that does not answer.
	batchTimeout = 10 * time.Second
)

var errBusy = &fault.Error{
	Kind: fault.Unavailable, Code: "unavailable", Message: "The server can't answer right now. Try again.",
	RetryAfter: time.Second,
}

// submission is what one caller wants to spend on the accounts of one worker.
type submission struct {
	drafts []*draft
	done   chan error // gets what became of it, once
}

// lane is the submissions that wait for a worker.
type lane struct {
	mu      sync.Mutex
	waiting []*submission
	events  int // of those waiting
	closed  bool
	wake    chan struct{} // of capacity 1
	// careful is how many of the next batches look for stored events before they insert. Only the worker uses it.
	careful int
}

// carefulFor is how many batches are careful after one that had to be: retries come in bursts.
const carefulFor = 64

// Spend records events, each counted once: an event that was recorded before answers as the first time. Outcomes come
// in the order of the events. Those of an account are taken in that order, each if it fits into what remains.
//
// Events of concurrent callers are committed together (see Run). If it returns an error, it is not known which events
// have been recorded; they can be sent again.
func (c *Credits) Spend(ctx context.Context, events []Event) ([]Outcome, error) {
	drafts, err := c.draft(ctx, events)
	if err != nil {
		return nil, err
	}
	var parts [workers][]*draft
	for i := range drafts {
		if d := &drafts[i]; d.outcome.Refusal == nil {
			n := maphash.String(c.seed, d.accountID) % workers
			parts[n] = append(parts[n], d)
		}
	}
	if err := c.submit(ctx, parts); err != nil {
		return nil, err
	}
	outcomes := make([]Outcome, len(drafts))
	for i := range drafts {
		outcomes[i] = drafts[i].outcome
	}
	return outcomes, nil
}

// submit hands each worker its part and waits until all are done. A part that no worker has taken when ctx ends, or
// when there is no room for another part, is withdrawn.
func (c *Credits) submit(ctx context.Context, parts [workers][]*draft) error {
	var submitted [workers]*submission
	var failed error
	for n, part := range parts {
		if len(part) == 0 || failed != nil {
			continue
		}
		submitted[n] = &submission{drafts: part, done: make(chan error, 1)}
		failed = c.lanes[n].add(submitted[n])
	}
	for _, s := range submitted {
		if s == nil || failed != nil {
			continue
		}
		select {
		case failed = <-s.done:
		case <-ctx.Done():
			failed = ctx.Err()
		}
	}
	if failed == nil {
		return nil
	}
	for n, s := range submitted {
		if s != nil {
			c.lanes[n].withdraw(s)
		}
	}
	return failed
}

func (l *lane) add(s *submission) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed || l.events > 0 && l.events+len(s.drafts) > maxWaiting {
		return errBusy
	}
	l.waiting = append(l.waiting, s)
	l.events += len(s.drafts)
	select {
	case l.wake <- struct{}{}:
	default: // awake already
	}
	return nil
}

func (l *lane) withdraw(s *submission) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if i := slices.Index(l.waiting, s); i >= 0 {
		l.waiting = slices.Delete(l.waiting, i, i+1)
		l.events -= len(s.drafts)
	}
}

// take returns the submissions for a batch, none if none wait.
func (l *lane) take() []*submission {
	l.mu.Lock()
	defer l.mu.Unlock()
	n, events := 0, 0
	for n < len(l.waiting) && (n == 0 || events+len(l.waiting[n].drafts) <= maxBatch) {
		events += len(l.waiting[n].drafts)
		n++
	}
	taken := slices.Clone(l.waiting[:n])
	l.waiting = slices.Delete(l.waiting, 0, n)
	l.events -= events
	return taken
}

func (l *lane) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
}

// Run commits what callers spend until ctx is done; then it refuses new submissions and commits those that wait. Each
// worker takes what has come in while it committed, so that a batch is as large as the load is high, and an event that
// comes in alone does not wait.
func (c *Credits) Run(ctx context.Context) error {
	var group errgroup.Group
	for n := range c.lanes {
		group.Go(func() error {
			c.work(ctx, &c.lanes[n])
			return nil
		})
	}
	return group.Wait()
}

func (c *Credits) work(ctx context.Context, l *lane) {
	for {
		if c.next(context.WithoutCancel(ctx), l) {
			continue
		}
		select {
		case <-l.wake:
		case <-ctx.Done():
			l.close()
			for c.next(context.WithoutCancel(ctx), l) {
				continue
			}
			return
		}
	}
}

// next commits what waits and reports whether anything did.
//
// While a worker commits, which is to wait for the disk, the other may prepare a batch; but they take turns at that,
// so that more comes together meanwhile: half of what a small batch costs it would cost with one event.
func (c *Credits) next(ctx context.Context, l *lane) bool {
	c.preparing.Lock()
	prepared := sync.OnceFunc(c.preparing.Unlock)
	defer prepared()
	batch := l.take()
	if len(batch) > 0 {
		c.commit(ctx, l, batch, prepared)
	}
	return len(batch) > 0
}

// commit commits submissions together and tells their callers. If that fails because of what one of them holds, it
// halves them until the others have got through.
func (c *Credits) commit(ctx context.Context, l *lane, submissions []*submission, prepared func()) {
	err := c.commitOnce(ctx, l, submissions, prepared)
	if err != nil && len(submissions) > 1 && postgres.Rejected(err) {
		half := len(submissions) / 2
		c.commit(ctx, l, submissions[:half], prepared)
		c.commit(ctx, l, submissions[half:], prepared)
		return
	}
	for _, s := range submissions {
		s.done <- err
	}
}

func (c *Credits) commitOnce(ctx context.Context, l *lane, submissions []*submission, prepared func()) error {
	ctx, cancel := context.WithTimeout(ctx, batchTimeout)
	defer cancel()
	b := newBatch(submissions, l.careful > 0)
	l.careful = max(0, l.careful-1)
	b.prepared = prepared
	err := c.commitBatch(ctx, b)
	if storedBefore(err) && !b.careful {
		b.careful = true
		err = c.commitBatch(ctx, b)
	}
	if b.needed {
		l.careful = carefulFor
	}
	return err
}

func (c *Credits) commitBatch(ctx context.Context, b *batch) error {
	const retries = 4
	for retry := 0; ; {
		stale, err := c.tryBatch(ctx, b)
		if err == nil && len(stale) > 0 {
			err = c.openPeriods(ctx, b, stale)
		}
		switch {
		case err == nil && len(stale) == 0:
			return nil
		case err == nil: // again, until no period ends meanwhile or ctx does
		case retry == retries || !worthRetry(err):
			return err
		default:
			retry++
		}
	}
}

// openPeriods opens periods for accounts that have no current one: at a month's end there are many. One that does not
// exist leaves the batch.
func (c *Credits) openPeriods(ctx context.Context, b *batch, accountIDs []string) error {
	var missing []string
	err := postgres.InTx(ctx, c.pool, func(tx postgres.Tx) error {
		missing = missing[:0]
		for _, id := range accountIDs { // sorted: that is the order of locks
			_, err := c.openTx(ctx, tx, id, c.now())
			if errors.Is(err, errNoAccount) {
				missing = append(missing, id)
			} else if err != nil {
				return err
			}
		}
		return nil
	})
	b.accountIDs = slices.DeleteFunc(b.accountIDs, func(id string) bool { return slices.Contains(missing, id) })
	return err
}
