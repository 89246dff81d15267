package stripe

import (
	"context"

	stripego "github.com/stripe/stripe-go/v76"
)

// installed is what is there at Stripe, as far as a sync is concerned.
type installed struct {
	Products  []product
	Prices    []price // active ones
	Portals   []portal
	Endpoints []endpoint
}

type product struct {
	ID, Name, Tier, DefaultPriceID string
	Active                         bool
}

type price struct {
	ID, ProductID, LookupKey, Tier string
	Cents                          int64
	Monthly                        bool // a flat price in our currency for each month, and nothing else
	Managed                        bool // created by a sync
}

type portal struct {
	ID, Products string
	Kind         portalKind
	Features     features
}

type endpoint struct {
	ID, URL, Version string
	Events           []string
	Enabled          bool
}

func (c *Client) installed(ctx context.Context) (there installed, err error) {
	for _, read := range []func(context.Context, *installed) error{c.readProducts, c.readPrices, c.readPortals, c.readEndpoints} {
		if err := read(ctx, &there); err != nil {
			return installed{}, err
		}
	}
	return there, nil
}

func (c *Client) readProducts(ctx context.Context, there *installed) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	list := c.api.Products.List(&stripego.ProductListParams{ListParams: page(ctx)})
	for list.Next() {
		p := list.Product()
		found := product{ID: p.ID, Name: p.Name, Tier: p.Metadata[tierMetadata], Active: p.Active}
		if p.DefaultPrice != nil {
			found.DefaultPriceID = p.DefaultPrice.ID
		}
		there.Products = append(there.Products, found)
	}
	return failed("list products", list.Err())
}

func (c *Client) readPrices(ctx context.Context, there *installed) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	list := c.api.Prices.List(&stripego.PriceListParams{ListParams: page(ctx), Active: stripego.Bool(true)})
	for list.Next() {
		p := list.Price()
		found := price{
			ID: p.ID, LookupKey: p.LookupKey, Tier: p.Metadata[tierMetadata], Cents: p.UnitAmount, Monthly: monthly(p),
			Managed: p.Metadata[managedMetadata] != "",
		}
		if p.Product != nil {
			found.ProductID = p.Product.ID
		}
		there.Prices = append(there.Prices, found)
	}
	return failed("list prices", list.Err())
}

func monthly(p *stripego.Price) bool {
	return p.Recurring != nil && p.Recurring.Interval == stripego.PriceRecurringIntervalMonth &&
		p.Recurring.IntervalCount == 1 && p.Recurring.UsageType == stripego.PriceRecurringUsageTypeLicensed &&
		p.BillingScheme == stripego.PriceBillingSchemePerUnit && p.Currency == stripego.Currency(currency)
}

func (c *Client) readPortals(ctx context.Context, there *installed) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	list := c.api.BillingPortalConfigurations.List(&stripego.BillingPortalConfigurationListParams{
		ListParams: page(ctx), Active: stripego.Bool(true),
	})
	for list.Next() {
		p := list.BillingPortalConfiguration()
		if kind := portalKind(p.Metadata[portalMetadata]); kind != "" && p.Features != nil {
			there.Portals = append(there.Portals, portal{
				ID: p.ID, Kind: kind, Products: p.Metadata[productsMetadata], Features: readFeatures(p),
			})
		}
	}
	return failed("list portal configurations", list.Err())
}

func readFeatures(p *stripego.BillingPortalConfiguration) features {
	f, read := p.Features, features{Downgrade: p.Metadata[downgradeMetadata]}
	read.Invoices = f.InvoiceHistory != nil && f.InvoiceHistory.Enabled
	read.PaymentMethods = f.PaymentMethodUpdate != nil && f.PaymentMethodUpdate.Enabled
	if f.SubscriptionCancel != nil && f.SubscriptionCancel.Enabled {
		read.Cancellation = string(f.SubscriptionCancel.Mode)
	}
	if f.SubscriptionUpdate != nil && f.SubscriptionUpdate.Enabled {
		read.Proration = string(f.SubscriptionUpdate.ProrationBehavior)
	}
	return read
}

func (c *Client) readEndpoints(ctx context.Context, there *installed) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	list := c.api.WebhookEndpoints.List(&stripego.WebhookEndpointListParams{ListParams: page(ctx)})
	for list.Next() {
		e := list.WebhookEndpoint()
		there.Endpoints = append(there.Endpoints, endpoint{
			ID: e.ID, URL: e.URL, Version: e.APIVersion, Events: e.EnabledEvents, Enabled: e.Status == "enabled",
		})
	}
	return failed("list webhook endpoints", list.Err())
}
