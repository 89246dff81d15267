package keymeter

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync/atomic"
	"time"
)

// settleWithin bounds what is done for a request after its customer may have gone.
const settleWithin = 30 * time.Second

// Verdict is what a [Meter] found out about a request that may be served.
type Verdict struct {
	// Result is Keymeter's answer: the account, the key, its tier and metadata, and what was spent and is left.
	Result VerifyKeyResult

	// EventID is the id of the event that a Cost became, and the beginning of the ids of what is recorded or settled.
	EventID string

	meter       *Meter
	recorded    atomic.Int64
	reservation *Reservation
	open        atomic.Bool // the reservation is neither settled nor released, as far as is known
}

type verdictKey struct{}

var errNoVerdict = errors.New("keymeter: the request did not pass a Meter")

// FromContext is the verdict on the request whose context this is, nil if it did not pass a [Meter].
func FromContext(ctx context.Context) *Verdict {
	v, _ := ctx.Value(verdictKey{}).(*Verdict)
	return v
}

// AccountID is the customer's account.
func (v *Verdict) AccountID() string {
	if v == nil || v.Result.AccountID == nil {
		return ""
	}
	return *v.Result.AccountID
}

// KeyID is the customer's key.
func (v *Verdict) KeyID() string {
	if v == nil || v.Result.KeyID == nil {
		return ""
	}
	return *v.Result.KeyID
}

// Record spends what a request costs, once it is known: before the work, so that it can still be refused, or after. It
// may be called several times; each is an event of its own. It is done even if the customer hangs up.
func (v *Verdict) Record(ctx context.Context, cost Cost) (*UsageEventResult, error) {
	if v == nil {
		return nil, errNoVerdict
	}
	ctx, cancel := beyond(ctx)
	defer cancel()
	return v.meter.Client.RecordUsage(ctx, UsageEvent{
		ID: fmt.Sprintf("%s.%d", v.EventID, v.recorded.Add(1)), KeyID: v.Result.KeyID,
		Category: cost.Category, Credits: cost.Credits, Provider: cost.Provider, Quantity: cost.Quantity,
		OutputQuantity: cost.OutputQuantity, BYOK: cost.BYOK,
	})
}

// Settle charges what the work cost, of the credits that the [Meter] holds. It is done even if the customer hangs up.
func (v *Verdict) Settle(ctx context.Context, cost SettleRequest) (*Reservation, error) {
	if v == nil {
		return nil, errNoVerdict
	}
	if v.reservation == nil {
		return nil, errors.New("keymeter: the Meter has no Hold")
	}
	if v.reservation.State == ReservationStateSettled { // by an earlier try of the same request
		return v.reservation, nil
	}
	ctx, cancel := beyond(ctx)
	defer cancel()
	settled, err := v.meter.Client.SettleReservation(ctx, v.reservation.ID, cost)
	if e := (*Error)(nil); errors.As(err, &e) && e.Status >= 400 && e.Status < 500 {
		return nil, err // nothing was changed: it can be settled otherwise, or is released
	}
	v.open.Store(false)
	return settled, err
}

// Refuse answers the request for an error of Record, as the [Meter] answers what it does not let through.
func (v *Verdict) Refuse(w http.ResponseWriter, r *http.Request, err error) {
	if v == nil {
		(&Meter{}).answer(w, r, (&Meter{}).refusalOf(r.Context(), err))
		return
	}
	v.meter.answer(w, r, v.meter.refusalOf(r.Context(), err))
}

// hold holds credits, if the meter says so.
func (v *Verdict) hold(ctx context.Context) error {
	hold := v.meter.Hold
	if hold == nil {
		return nil
	}
	body := ReserveRequest{EventID: v.EventID, KeyID: v.Result.KeyID, Category: hold.Category, Credits: hold.Credits}
	if hold.TTL > 0 {
		body.TTLSeconds = Ptr(int32(max(1, hold.TTL/time.Second)))
	}
	reservation, err := v.meter.Client.ReserveCredits(ctx, body)
	if err == nil && (reservation.State == ReservationStateReleased || reservation.State == ReservationStateExpired) {
		body.EventID = v.meter.Client.newID() // an earlier try of the same request came to nothing
		reservation, err = v.meter.Client.ReserveCredits(ctx, body)
	}
	if err != nil {
		return err
	}
	v.reservation = reservation
	v.open.Store(reservation.State == ReservationStateHeld)
	return nil
}

// release gives back what was held and not settled.
func (v *Verdict) release(ctx context.Context) {
	if !v.open.Swap(false) {
		return
	}
	ctx, cancel := beyond(ctx)
	defer cancel()
	if _, err := v.meter.Client.ReleaseReservation(ctx, v.reservation.ID); err != nil {
		v.meter.report(ctx, err) // the hold frees itself later
	}
}

// beyond is a context that outlives the request.
func beyond(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(ctx), settleWithin)
}
