package stripe

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/stripe/stripe-go/v76/webhook"

	"github.com/keymeter/keymeter/internal/billing"
	"github.com/keymeter/keymeter/internal/fault"
)

// ReadEvent checks the signature of an event on its raw body and returns it. ok is false for an event that is genuine
// but of no interest. Stripe is asked only for the customer of an event that does not name it.
func (c *Client) ReadEvent(ctx context.Context, body []byte, signature string) (e billing.Event, ok bool, err error) {
	if err := c.verify(body, signature); err != nil {
		return billing.Event{}, false, err
	}
	h, err := readHint(body)
	if err != nil {
		return billing.Event{}, false, fault.New(fault.Invalid, "invalid_request", "The body is not a Stripe event.").Because(err)
	}
	if h.Livemode != c.Live() {
		return billing.Event{}, false, fault.InvalidField("livemode", "is not that of the Stripe key of this server")
	}
	return c.event(ctx, h)
}

// tolerance is how far the time of a signature may lie from ours, as Stripe's libraries have it.
const tolerance = 5 * time.Minute

// verify tries each secret: while one is being rotated, events are signed with the old or the new.
func (c *Client) verify(body []byte, signature string) error {
	if err := fresh(signature, c.cfg.Now()); err != nil {
		return billing.ErrInvalidSignature.Because(err)
	}
	var tried []error
	for _, secret := range c.cfg.WebhookSecrets {
		err := webhook.ValidatePayloadIgnoringTolerance(body, signature, secret)
		if err == nil {
			return nil
		}
		tried = append(tried, err)
	}
	return billing.ErrInvalidSignature.Because(errors.Join(tried...))
}

// fresh refuses a signature that is too old, so that an event can't be replayed, or too far ahead, which stripe-go
// would accept and which could be replayed for long. There must be one time: of several, stripe-go may check another.
func fresh(signature string, now time.Time) error {
	var times []string
	for part := range strings.SplitSeq(signature, ",") {
		if name, value, _ := strings.Cut(part, "="); strings.TrimSpace(name) == "t" {
			times = append(times, value)
		}
	}
	if len(times) != 1 {
		return fmt.Errorf("the signature has %d times", len(times))
	}
	unix, err := strconv.ParseInt(times[0], 10, 64)
	if err != nil {
		return fmt.Errorf("time of the signature: %w", err)
	}
	if age := now.Sub(time.Unix(unix, 0)); age > tolerance || age < -tolerance {
		return fmt.Errorf("the signature is %s old", age)
	}
	return nil
}
