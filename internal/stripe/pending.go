package stripe

import (
	"context"
	"errors"
	"time"

	"github.com/keymeter/keymeter/internal/billing"
)

var errPending = errors.New("not implemented yet")

// Customer is not there yet.
func (c *Client) Customer(context.Context, string) (string, bool, error) { return "", false, errPending }
// CancelSubscription is not there yet.
func (c *Client) CancelSubscription(context.Context, billing.Cancellation) error {
	return errPending
}
// RenewalDraft is not there yet.
func (c *Client) RenewalDraft(context.Context, string, string, time.Time) (string, bool, error) {
	return "", false, errPending
}
// AddOverage is not there yet.
func (c *Client) AddOverage(context.Context, billing.OverageItem) (string, error) {
	return "", errPending
}
// BillAlone is not there yet.
func (c *Client) BillAlone(context.Context, billing.OwnInvoice) (string, error) { return "", errPending }
// CreateTopUp is not there yet.
func (c *Client) CreateTopUp(context.Context, billing.TopUp) (billing.Session, error) {
	return billing.Session{}, errPending
}
// TopUpPayment is not there yet.
func (c *Client) TopUpPayment(context.Context, string) (billing.Payment, bool, error) {
	return billing.Payment{}, false, errPending
}
// TopUpOfPaymentIntent is not there yet.
func (c *Client) TopUpOfPaymentIntent(context.Context, string) (billing.Payment, bool, error) {
	return billing.Payment{}, false, errPending
}
// TopUps is not there yet.
func (c *Client) TopUps(context.Context, string) ([]billing.Payment, error) { return nil, errPending }
// Events is not there yet.
func (c *Client) Events(context.Context, time.Time, func(billing.Event) error) error {
	return errPending
}
