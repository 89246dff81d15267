package stripe

import (
	"context"
	"strconv"

	stripego "github.com/stripe/stripe-go/v76"

	"github.com/keymeter/keymeter/internal/billing"
)

// CreateCustomer creates the account's customer and returns its id. Under one idempotency key an account has one
// customer: the parameters are constant for it, else Stripe would refuse the repetition. Name and email follow by an
// update.
func (c *Client) CreateCustomer(ctx context.Context, contact billing.Contact) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	created, err := c.api.Customers.New(&stripego.CustomerParams{
		Params:   write(ctx, customerKey(contact)),
		Metadata: map[string]string{accountMetadata: contact.AccountID},
	})
	if err != nil {
		return "", failed("create the customer", err)
	}
	_, err = c.api.Customers.Update(created.ID, &stripego.CustomerParams{
		Params: stripego.Params{Context: ctx}, // what it sets is the same each time
		Name:   stripego.String(contact.Name),
		Email:  contact.Email,
	})
	return created.ID, failed("name the customer", err)
}

// customerKey is another after a customer was deleted: Stripe would return that one again.
func customerKey(contact billing.Contact) string {
	key := "keymeter:customer:" + contact.AccountID
	if contact.Generation > 0 {
		key += ":" + strconv.FormatInt(contact.Generation, 10)
	}
	return key
}

// Customer returns the account id that a customer was created for, "" if none, and whether it exists. Of a deleted customer Stripe
// keeps the id alone.
func (c *Client) Customer(ctx context.Context, customerID string) (accountID string, exists bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	found, err := c.api.Customers.Get(customerID, &stripego.CustomerParams{Params: read(ctx)})
	if missing(err) {
		return "", false, nil
	}
	if err != nil {
		return "", false, failed("get the customer", err)
	}
	return found.Metadata[accountMetadata], !found.Deleted, nil
}
