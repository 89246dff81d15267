package billing

import (
	"context"
	"errors"
	"log/slog"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
)

const (
	reconcileFor   = 6 * time.Minute // how long whoever died keeps others from reconciling
	overlap        = 10 * time.Minute
	firstLook      = 72 * time.Hour      // as long as Stripe tries to deliver an event
	eventsAtOnce   = 1000                // that are put into the inbox
	accountsAtOnce = 100                 // that are looked at in a run
	overageFor     = 90 * 24 * time.Hour // how long new overage is looked for
	eventsFor      = 35 * 24 * time.Hour // how long handled events are kept; Stripe keeps them for 30 days
	forgotAtOnce   = 10_000              // events that are forgotten in a run
)

// Report is what a reconciliation did, and what is left.
type Report struct {
	Troubles
	Busy       bool  // another server is at it, so that nothing was done
	Found      int64 // events that no webhook had brought
	Checked    int64 // accounts that were read anew without an event
	Unreadable int64 // accounts of these whose state could not be read; they are tried again
}

// Reconcile finds what events did not tell, or told nobody: events that no webhook brought, accounts whose time has come,
// work that is left. One server does so at a time. It goes on as far as it can; what it could not do, the next run does.
func (b *Billing) Reconcile(ctx context.Context) (r Report, err error) {
	if b.Provider == nil {
		return Report{}, ErrNotConfigured
	}
	now := b.Now()
	until := now.Add(reconcileFor).Truncate(time.Microsecond) // what Postgres stores
	since, ok, err := claimReconciliation(ctx, b.Pool, now.Add(-firstLook), now, until)
	if err != nil || !ok {
		return Report{Busy: !ok}, err
	}
	defer func() {
		err = errors.Join(err, releaseReconciliation(context.WithoutCancel(ctx), b.Pool, until))
	}()
	r.Found, err = b.findEvents(ctx, since, now)
	err = errors.Join(err, b.WorkOff(ctx), b.checkAccounts(ctx, now, &r), b.recordOverage(ctx), b.WorkOff(ctx),
		forgetEvents(ctx, b.Pool, now.Add(-eventsFor), forgotAtOnce))
	left, failure := countTroubles(ctx, b.Pool)
	r.Troubles = left
	return r, errors.Join(err, failure)
}

// findEvents puts what happened since then into the inbox.
func (b *Billing) findEvents(ctx context.Context, since, now time.Time) (found int64, err error) {
	var batch []Event
	flush := func() error {
		added, err := b.Receive(ctx, batch...)
		found, batch = found+added, batch[:0]
		return err
	}
	err = b.Provider.Events(ctx, since.Add(-overlap), func(e Event) error {
		if batch = append(batch, e); len(batch) < eventsAtOnce {
			return nil
		}
		return flush()
	})
	if err != nil {
		return found, err
	}
	if err := flush(); err != nil {
		return found, err
	}
	return found, moveReconciliation(ctx, b.Pool, now)
}

// checkAccounts reads the accounts anew whose time has come: a grace has run out, a renewal is not there, or nothing was
// heard of them for long.
func (b *Billing) checkAccounts(ctx context.Context, now time.Time, r *Report) error {
	due, err := accountsToCheck(ctx, b.Pool, now, accountsAtOnce)
	if err != nil {
		return err
	}
	group := errgroup.Group{}
	group.SetLimit(workers)
	for _, account := range due {
		group.Go(func() error { return b.check(ctx, account, r) })
	}
	return group.Wait()
}

func (b *Billing) check(ctx context.Context, account dueRow, r *Report) error {
	ctx, cancel := context.WithTimeout(ctx, workTimeout)
	defer cancel()
	err := b.project(ctx, account.accountID, account.customerID, false)
	atomic.AddInt64(&r.Checked, 1)
	if err == nil {
		return nil
	}
	atomic.AddInt64(&r.Unreadable, 1)
	b.Logger.LogAttrs(ctx, slog.LevelError, "an account's subscription can't be read and will be tried again",
		slog.String("account", account.accountID), slog.String("error", err.Error()))
	return putOffCheck(context.WithoutCancel(ctx), b.Pool, account.accountID, b.Now().Add(checkAgain))
}
