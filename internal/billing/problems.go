package billing

import (
	"context"
	"time"
)

// mostProblems is how many of each kind are shown.
const mostProblems = 100

// FailingEvent is an event that could not be handled and will be tried again.
type FailingEvent struct {
	ID, Type, CustomerID      string
	ReceivedAt, NextAttemptAt time.Time
	Attempts                  int
	LastError                 string
}

// Troubles counts what needs an operator's eye.
type Troubles struct {
	FailingEvents  int64 // events that failed and will be tried again
	PendingOverage int64 // overage that is not on an invoice yet
	ParkedOverage  int64 // overage that was refused for good
	Duplicates     int64 // second subscriptions that were ever found
}

// Problems is what could not be done, as far as it can be shown at once.
type Problems struct {
	Troubles
	Events []FailingEvent
	Bills  []Bill // parked, failed or unbilled
}

// Problems returns what could not be done.
func (b *Billing) Problems(ctx context.Context) (p Problems, err error) {
	if p.Troubles, err = countTroubles(ctx, b.Pool); err != nil {
		return Problems{}, err
	}
	if p.Events, err = failingEvents(ctx, b.Pool, mostProblems); err != nil {
		return Problems{}, err
	}
	p.Bills, err = openBills(ctx, b.Pool, mostProblems)
	return p, err
}
