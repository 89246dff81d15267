package billing

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/keymeter/keymeter/internal/fault"
)

const (
	workers     = 4               // of each server; the longest they wait for is Stripe
	pollEvery   = 2 * time.Second // for what other servers have received, and for what is to be tried again
	workTimeout = 2 * time.Minute // of one piece of work
	claimFor    = 3 * time.Minute // how long whoever died keeps its work from others; longer than workTimeout

	firstBackoff  = 5 * time.Second // doubles with each failure
	longestRetry  = 5 * time.Minute
	longestReason = 500 // characters of an error that are kept
)

// Event is a hint of the provider's that something about a customer changed. Nothing but its identity is taken from it.
type Event struct {
	ID, Type, CustomerID string
	Created              time.Time // whole seconds, which do not order events
}

// customerDeleted is the type of the events after which a customer may be gone.
const customerDeleted = "customer.deleted"

// Receive puts events into the inbox, each once, and has them worked off soon. It returns how many were not there yet.
func (b *Billing) Receive(ctx context.Context, events ...Event) (added int64, err error) {
	if b.Provider == nil {
		return 0, ErrNotConfigured
	}
	if added, err = insertEvents(ctx, b.Pool, events, b.Now()); added > 0 {
		b.wakeUp()
	}
	return added, err
}

// wakeUp has one of the workers look for work now.
func (b *Billing) wakeUp() {
	select {
	case b.wake <- struct{}{}:
	default: // one is about to look anyway
	}
}

// Run works off what is due, here or on any other server, until ctx is done.
func (b *Billing) Run(ctx context.Context) error {
	if b.Provider == nil {
		<-ctx.Done()
		return nil
	}
	group, ctx := errgroup.WithContext(ctx)
	for range workers {
		group.Go(func() error { b.work(ctx); return nil })
	}
	return group.Wait()
}

func (b *Billing) work(ctx context.Context) {
	ticker := time.NewTicker(pollEvery)
	defer ticker.Stop()
	for {
		if err := b.WorkOff(ctx); err != nil && ctx.Err() == nil {
			b.Logger.LogAttrs(ctx, slog.LevelError, "billing can't look for work", slog.String("error", err.Error()))
		}
		select {
		case <-ctx.Done():
			return
		case <-b.wake:
		case <-ticker.C:
		}
	}
}

// WorkOff works off all that is due and returns when there is no more. What fails stays, to be tried again later; an
// error is about the database.
func (b *Billing) WorkOff(ctx context.Context) error {
	for _, next := range []func(context.Context) (bool, error){b.workOffEvents, b.workOffBills} {
		for more := true; more; {
			var err error
			if more, err = next(ctx); err != nil {
				return err
			}
		}
	}
	return nil
}

// claim is the open events of a customer, which one worker has to itself.
type claim struct {
	customerID string
	ids, types []string
	attempts   int // of the event that was tried most
}

// workOffEvents brings one customer to its current state, and so handles all of its events at once.
func (b *Billing) workOffEvents(ctx context.Context) (found bool, err error) {
	now := b.Now()
	c, found, err := claimEvents(ctx, b.Pool, now, now.Add(claimFor))
	if err != nil || !found {
		return false, err
	}
	b.wakeUp() // there may be work for another worker, too
	accountID, failure := b.handle(ctx, c)
	// The server may be about to stop. What became of the work is noted all the same.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), claimFor-workTimeout)
	defer cancel()
	if failure == nil {
		return true, eventsHandled(ctx, b.Pool, c.ids, accountID, b.Now())
	}
	b.Logger.LogAttrs(ctx, slog.LevelError, "stripe events failed and will be tried again", slog.Any("events", c.ids),
		slog.Int("attempts", c.attempts), slog.String("error", failure.Error()))
	return true, eventsFailed(ctx, b.Pool, c.ids, reason(failure), b.Now().Add(backoff(c.attempts, failure)))
}

func (b *Billing) handle(ctx context.Context, c claim) (accountID string, err error) {
	ctx, cancel := context.WithTimeout(ctx, workTimeout)
	defer cancel()
	accountID, err = b.accountOf(ctx, c.customerID)
	if err != nil || accountID == "" { // a customer of another system on the same Stripe account
		return "", err
	}
	return accountID, b.project(ctx, accountID, c.customerID, slices.Contains(c.types, customerDeleted))
}

// backoff is how long to wait after so many attempts. The provider may ask for more.
func backoff(attempts int, failure error) time.Duration {
	wait := min(firstBackoff<<min(attempts-1, 10), longestRetry)
	var refusal *fault.Error
	if errors.As(failure, &refusal) {
		wait = max(wait, refusal.RetryAfter)
	}
	return wait
}

// reason is what is kept of an error, for operators.
func reason(failure error) string {
	text := fmt.Sprint(failure)
	return strings.ToValidUTF8(text[:min(len(text), longestReason)], "") // half a character, Postgres would refuse
}
