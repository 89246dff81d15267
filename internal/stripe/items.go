package stripe

import (
	"context"
	"fmt"
	"strconv"

	stripego "github.com/stripe/stripe-go/v76"

	"github.com/keymeter/keymeter/internal/billing"
)

const currency = "usd"

// AddOverage puts an item on an invoice, once for each key.
func (c *Client) AddOverage(ctx context.Context, p billing.OverageItem) (itemID string, err error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	found, err := c.findItem(ctx, p.CustomerID, p.Key)
	if err != nil {
		return "", err
	}
	if found != nil {
		return found.ID, nil
	}
	return c.addItem(ctx, p)
}

// moveItem puts an item on an invoice of its own. If it is pending, it is for an invoice that will never come; if it is on a
// draft, for one that nobody will collect.
func (c *Client) moveItem(ctx context.Context, p billing.OverageItem) error {
	found, err := c.findItem(ctx, p.CustomerID, p.Key)
	if err != nil || found != nil && found.Invoice != nil && found.Invoice.ID == p.InvoiceID {
		return err
	}
	if found != nil {
		_, err := c.api.InvoiceItems.Del(found.ID, &stripego.InvoiceItemParams{Params: write(ctx, "keymeter:move:"+found.ID)})
		if found.Invoice != nil && closed(err) { // an invoice has it after all
			return nil
		}
		if err != nil && !missing(err) {
			return failed("delete the invoice item that waits in vain", err)
		}
	}
	_, err = c.addItem(ctx, p)
	return err
}

// findItem returns the item of the key, wherever it is; nil if there is none. An idempotency key would not do: the answer
// to a call may have been lost, and by the next one the item has to go elsewhere.
func (c *Client) findItem(ctx context.Context, customerID, key string) (*stripego.InvoiceItem, error) {
	list := c.api.InvoiceItems.List(&stripego.InvoiceItemListParams{
		ListParams: page(ctx), Customer: stripego.String(customerID),
	})
	for list.Next() {
		if list.InvoiceItem().Metadata[keyMetadata] == key {
			return list.InvoiceItem(), nil
		}
	}
	return nil, failed("list invoice items", list.Err())
}

func (c *Client) addItem(ctx context.Context, p billing.OverageItem) (itemID string, err error) {
	params := &stripego.InvoiceItemParams{
		Params:      write(ctx, "keymeter:item:"+p.Key+":"+p.InvoiceID),
		Customer:    stripego.String(p.CustomerID),
		Currency:    stripego.String(currency),
		Amount:      stripego.Int64(p.AmountCents),
		Description: stripego.String(p.Description),
		Period: &stripego.InvoiceItemPeriodParams{
			Start: stripego.Int64(p.PeriodStart.Unix()), End: stripego.Int64(p.PeriodEnd.Unix()),
		},
		Metadata: map[string]string{
			accountMetadata: p.AccountID, keyMetadata: p.Key, subscriptionMetadata: p.SubscriptionID,
			creditsMetadata: strconv.FormatInt(p.Credits, 10), unitPriceMetadata: p.UnitPrice,
		},
	}
	if p.InvoiceID != "" {
		params.Invoice = stripego.String(p.InvoiceID)
	} else {
		params.Subscription = stripego.String(p.SubscriptionID)
	}
	item, err := c.api.InvoiceItems.New(params)
	switch {
	case p.InvoiceID != "" && closed(err):
		return "", fmt.Errorf("add to invoice %s: %w", p.InvoiceID, billing.ErrInvoiceClosed)
	case err != nil:
		return "", failed("add the invoice item", err)
	}
	return item.ID, nil
}
