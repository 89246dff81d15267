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
	found, voided, err := c.findItem(ctx, p.CustomerID, p.Key)
	if err != nil {
		return "", err
	}
	if found != nil {
		return found.ID, same(found.Amount, p.AmountCents, "item "+found.ID)
	}
	return c.addItem(ctx, p, voided)
}

// same refuses what was billed before with another amount, as it may have been where the database was restored since.
func same(billed, wanted int64, what string) error {
	if billed == wanted {
		return nil
	}
	return &billing.Refused{
		Code: "billed_otherwise", Message: fmt.Sprintf("%s has %d cents and not %d", what, billed, wanted),
	}
}

// moveItem puts an item on an invoice of its own. If it is pending, it is for an invoice that will never come; if it is on a
// draft, for one that nobody will collect.
func (c *Client) moveItem(ctx context.Context, p billing.OverageItem) error {
	found, voided, err := c.findItem(ctx, p.CustomerID, p.Key)
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
	_, err = c.addItem(ctx, p, voided)
	return err
}

// findItem returns the item of the key, wherever it is; nil if there is none, or if the invoice that it was on was voided,
// and then that invoice's id. An idempotency key would not do: the answer to a call may have been lost, and by the next one
// the item has to go elsewhere.
func (c *Client) findItem(
	ctx context.Context, customerID, key string,
) (found *stripego.InvoiceItem, voided string, err error) {
	list := c.api.InvoiceItems.List(&stripego.InvoiceItemListParams{
		ListParams: page(ctx), Customer: stripego.String(customerID),
	})
	for list.Next() {
		item := list.InvoiceItem() // the newest
		if item.Metadata[keyMetadata] != key {
			continue
		}
		if item.Invoice == nil {
			return item, "", nil
		}
		invoice, err := c.api.Invoices.Get(item.Invoice.ID, &stripego.InvoiceParams{Params: read(ctx)})
		switch {
		case err != nil:
			return nil, "", failed("get the invoice of the item", err)
		case invoice.Status == stripego.InvoiceStatusVoid:
			return nil, invoice.ID, nil
		}
		return item, "", nil
	}
	return nil, "", failed("list invoice items", list.Err())
}

// VoidedItems returns the items, by their keys, that were on invoices of the customer which were voided since.
func (c *Client) VoidedItems(ctx context.Context, customerID string) (itemIDs map[string]string, err error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	voided := map[string]bool{}
	invoices := c.api.Invoices.List(&stripego.InvoiceListParams{
		ListParams: page(ctx), Customer: stripego.String(customerID), Status: stripego.String(string(stripego.InvoiceStatusVoid)),
	})
	for invoices.Next() {
		voided[invoices.Invoice().ID] = true
	}
	if err := invoices.Err(); err != nil || len(voided) == 0 {
		return nil, failed("list void invoices", err)
	}
	seen := map[string]bool{}
	itemIDs = map[string]string{}
	items := c.api.InvoiceItems.List(&stripego.InvoiceItemListParams{
		ListParams: page(ctx), Customer: stripego.String(customerID),
	})
	for items.Next() {
		item := items.InvoiceItem()
		key := item.Metadata[keyMetadata]
		if key == "" || seen[key] {
			continue
		}
		seen[key] = true // what was billed anew is not void
		if item.Invoice != nil && voided[item.Invoice.ID] {
			itemIDs[key] = item.ID
		}
	}
	return itemIDs, failed("list invoice items", items.Err())
}

// after is the part of an idempotency key that tells a second making from the first.
func after(voided string) string {
	if voided == "" {
		return ""
	}
	return ":after:" + voided
}

// addItem makes the item. voided is the invoice that one of the same key was on, "" for none.
func (c *Client) addItem(ctx context.Context, p billing.OverageItem, voided string) (itemID string, err error) {
	params := &stripego.InvoiceItemParams{
		Params:      write(ctx, "keymeter:item:"+p.Key+":"+p.InvoiceID+after(voided)),
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
