package stripe

import (
	"cmp"
	"context"
	"time"

	stripego "github.com/stripe/stripe-go/v76"

	"github.com/keymeter/keymeter/internal/billing"
)

// RenewalDraft returns the draft of the renewal invoice for the period that starts then.
func (c *Client) RenewalDraft(
	ctx context.Context, customerID, subscriptionID string, periodStart time.Time,
) (invoiceID string, ok bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	drafts := c.api.Invoices.List(&stripego.InvoiceListParams{
		ListParams: page(ctx), Customer: stripego.String(customerID), Subscription: stripego.String(subscriptionID),
		Status: stripego.String(string(stripego.InvoiceStatusDraft)),
	})
	for drafts.Next() {
		invoice := drafts.Invoice()
		// An invoice's own period lies behind it: it ends where the one that is paid for begins.
		if invoice.BillingReason == stripego.InvoiceBillingReasonSubscriptionCycle && at(invoice.PeriodEnd).Equal(periodStart) {
			return invoice.ID, true, nil
		}
	}
	return "", false, failed("list draft invoices", drafts.Err())
}

// BillAlone makes an invoice of its own and has it collected. Until all of its items are on it, it is a draft that does
// not advance: one that a crash left half-filled would be charged within the hour.
func (c *Client) BillAlone(ctx context.Context, p billing.OwnInvoice) (invoiceID string, err error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	invoice, err := c.ownInvoice(ctx, p)
	if err != nil {
		return "", err
	}
	if invoice.Status != stripego.InvoiceStatusDraft {
		return invoice.ID, nil
	}
	for _, item := range p.Items {
		item.InvoiceID = invoice.ID
		if err := c.moveItem(ctx, item); err != nil {
			return "", err
		}
	}
	_, err = c.api.Invoices.FinalizeInvoice(invoice.ID, &stripego.InvoiceFinalizeInvoiceParams{
		Params: write(ctx, "keymeter:finalize:"+p.Key+":"+invoice.ID), AutoAdvance: stripego.Bool(true),
	})
	return invoice.ID, failed("finalize the invoice", err)
}

// ownInvoice returns the invoice of the key, and creates it if there is none. Stripe knows an idempotency key for a day
// only; the metadata is there for ever.
func (c *Client) ownInvoice(ctx context.Context, p billing.OwnInvoice) (*stripego.Invoice, error) {
	voided, abandoned := "", map[string]bool{} // drafts that nobody will collect
	list := c.api.Invoices.List(&stripego.InvoiceListParams{ListParams: page(ctx), Customer: stripego.String(p.CustomerID)})
	for list.Next() {
		invoice := list.Invoice()
		if invoice.Metadata[keyMetadata] == p.Key {
			if invoice.Status != stripego.InvoiceStatusVoid {
				return invoice, filled(invoice, p.Items)
			}
			voided = cmp.Or(voided, invoice.ID)
		}
		abandoned[invoice.ID] = invoice.Status == stripego.InvoiceStatusDraft && !invoice.AutoAdvance
	}
	if err := list.Err(); err != nil {
		return nil, failed("list invoices", err)
	}
	if elsewhere, err := c.invoiced(ctx, p.Items, abandoned); err != nil || elsewhere != nil {
		return elsewhere, err
	}
	params := &stripego.InvoiceParams{
		Params:                      write(ctx, "keymeter:invoice:"+p.Key+after(voided)),
		Customer:                    stripego.String(p.CustomerID),
		Currency:                    stripego.String(currency),
		AutoAdvance:                 stripego.Bool(false),
		PendingInvoiceItemsBehavior: stripego.String("exclude"),
		Description:                 stripego.String(p.Description),
		Metadata: map[string]string{
			accountMetadata: p.AccountID, keyMetadata: p.Key, subscriptionMetadata: p.SubscriptionID,
		},
	}
	if err := c.payAs(ctx, p.SubscriptionID, params); err != nil {
		return nil, err
	}
	created, err := c.api.Invoices.New(params)
	return created, failed("create the invoice", err)
}

// filled refuses an invoice of our own that is of another amount than its items are now.
func filled(invoice *stripego.Invoice, items []billing.OverageItem) error {
	if invoice.Status == stripego.InvoiceStatusDraft {
		return nil
	}
	var sum int64
	for _, item := range items {
		sum += item.AmountCents
	}
	return same(invoice.Subtotal, sum, "invoice "+invoice.ID)
}

// invoiced returns an invoice that has the items already, so that one of its own would be empty; nil if one of them is still
// to go onto one. The renewal that was a draft when its subscription was cancelled does not count: Stripe leaves it one.
func (c *Client) invoiced(
	ctx context.Context, items []billing.OverageItem, abandoned map[string]bool,
) (invoice *stripego.Invoice, err error) {
	for _, item := range items {
		found, _, err := c.findItem(ctx, item.CustomerID, item.Key)
		if err != nil || found == nil || found.Invoice == nil || abandoned[found.Invoice.ID] {
			return nil, err
		}
		if err := same(found.Amount, item.AmountCents, "item "+found.ID); err != nil {
			return nil, err
		}
		invoice = found.Invoice
	}
	return invoice, nil
}

// payAs has an invoice paid by the payment method of the subscription. Checkout leaves it there and not with the customer,
// so that other invoices would find none.
func (c *Client) payAs(ctx context.Context, subscriptionID string, params *stripego.InvoiceParams) error {
	if subscriptionID == "" {
		return nil
	}
	s, err := c.api.Subscriptions.Get(subscriptionID, &stripego.SubscriptionParams{Params: read(ctx)})
	if err != nil {
		return failed("get the subscription of the invoice", err)
	}
	if s.DefaultPaymentMethod != nil {
		params.DefaultPaymentMethod = stripego.String(s.DefaultPaymentMethod.ID)
	}
	return nil
}
