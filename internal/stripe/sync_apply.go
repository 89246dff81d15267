package stripe

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"

	stripego "github.com/stripe/stripe-go/v76"
	"github.com/stripe/stripe-go/v76/client"
)

// applier makes changes. It knows what the changes before have created.
type applier struct {
	api    *client.API
	sold   []sold
	synced Synced
}

func createProduct(o offer) Change {
	return Change{"create", fmt.Sprintf("product %s: %s", productID(o), o.Name), func(ctx context.Context, a *applier) error {
		params := productParams(ctx, o)
		params.ID = stripego.String(productID(o))
		_, err := a.api.Products.New(params)
		return err
	}}
}

func changeProduct(id string, o offer) Change {
	return Change{
		"change", fmt.Sprintf("product %s: %s, active, for tier %s", id, o.Name, o.Tier),
		func(ctx context.Context, a *applier) error {
			params := productParams(ctx, o)
			params.Active = stripego.Bool(true)
			_, err := a.api.Products.Update(id, params)
			return err
		},
	}
}

func productParams(ctx context.Context, o offer) *stripego.ProductParams {
	return &stripego.ProductParams{
		Params: read(ctx), Name: stripego.String(o.Name), Metadata: map[string]string{tierMetadata: string(o.Tier)},
	}
}

func createPrice(n int, o offer, before *price) Change {
	what := fmt.Sprintf("price %s: %s a month", o.LookupKey, dollars(o.Cents))
	if before != nil {
		what += fmt.Sprintf(", in place of %s (%s)", before.ID, dollars(before.Cents))
	}
	return Change{"create", what, func(ctx context.Context, a *applier) error {
		created, err := a.api.Prices.New(&stripego.PriceParams{
			Params:            read(ctx),
			Product:           stripego.String(a.sold[n].ProductID),
			Currency:          stripego.String(currency),
			UnitAmount:        stripego.Int64(o.Cents),
			LookupKey:         stripego.String(o.LookupKey),
			TransferLookupKey: stripego.Bool(true),
			Recurring: &stripego.PriceRecurringParams{
				Interval: stripego.String(string(stripego.PriceRecurringIntervalMonth)),
			},
			Metadata: map[string]string{tierMetadata: string(o.Tier), managedMetadata: "true"},
		})
		if err == nil {
			a.sold[n].PriceID = created.ID
		}
		return err
	}}
}

func changePrice(id string, o offer) Change {
	return Change{
		"change", fmt.Sprintf("price %s (%s): for tier %s", o.LookupKey, id, o.Tier),
		func(ctx context.Context, a *applier) error {
			_, err := a.api.Prices.Update(id, &stripego.PriceParams{
				Params: read(ctx), Metadata: map[string]string{tierMetadata: string(o.Tier)},
			})
			return err
		},
	}
}

// archivePrice takes a price off sale. Who pays it goes on paying it, and its metadata says what for. Stripe does not
// archive a product's default price.
func archivePrice(n int, old price, isDefault bool) Change {
	return Change{
		"archive", fmt.Sprintf("price %s: %s, who has it keeps it", old.ID, dollars(old.Cents)),
		func(ctx context.Context, a *applier) error {
			if isDefault {
				_, err := a.api.Products.Update(old.ProductID, &stripego.ProductParams{
					Params: read(ctx), DefaultPrice: stripego.String(a.sold[n].PriceID),
				})
				if err != nil {
					return err
				}
			}
			_, err := a.api.Prices.Update(old.ID, &stripego.PriceParams{
				Params: read(ctx), Active: stripego.Bool(false),
				Metadata: map[string]string{tierMetadata: string(a.sold[n].Tier)},
			})
			return err
		},
	}
}

// writePortal creates a portal configuration, or changes the one with the id.
func writePortal(verb, id string, kind portalKind) Change {
	what := "portal configuration for payment methods, invoices and cancellation"
	if kind == portalPlanChange {
		what = "portal configuration for confirming a change of plan"
	}
	return Change{verb, what, func(ctx context.Context, a *applier) error {
		write := func(f features) error {
			params := a.portalParams(ctx, kind, f)
			if id != "" {
				_, err := a.api.BillingPortalConfigurations.Update(id, params)
				return err
			}
			_, err := a.api.BillingPortalConfigurations.New(params)
			return err
		}
		f := featuresOf(kind)
		err := write(f)
		if f.Downgrade == "" || !refusesDowngrade(err) {
			return err
		}
		a.synced.Warnings = append(a.synced.Warnings, "Stripe does not take "+scheduleParam+
			": a change to a lesser plan takes effect at once, and what is left of the month is credited")
		f.Downgrade = ""
		return write(f)
	}}
}

// Stripe can put downgrades off since a later API version than that of our client, and asks to send that version. For
// portal configurations nothing else has changed in it.
const (
	scheduleVersion = "2024-10-28.acacia"
	scheduleParam   = "schedule_at_period_end"
)

// putOff has a change to a lesser plan take effect at the period's end. stripe-go has no field for it yet.
func putOff(params *stripego.BillingPortalConfigurationParams, when string) {
	params.Headers = http.Header{"Stripe-Version": {scheduleVersion}}
	params.AddExtra("features[subscription_update]["+scheduleParam+"][conditions][0][type]", "decreasing_item_amount")
	params.Metadata[downgradeMetadata] = when
}

// refusesDowngrade reports whether a portal configuration was refused for what putOff adds to it.
func refusesDowngrade(err error) bool {
	var stripeErr *stripego.Error
	return errors.As(err, &stripeErr) && stripeErr.HTTPStatusCode == http.StatusBadRequest &&
		(strings.Contains(stripeErr.Param+stripeErr.Msg, scheduleParam) || strings.Contains(stripeErr.Msg, scheduleVersion))
}

func (a *applier) portalParams(
	ctx context.Context, kind portalKind, f features,
) *stripego.BillingPortalConfigurationParams {
	params := &stripego.BillingPortalConfigurationParams{
		Params:          read(ctx),
		BusinessProfile: &stripego.BillingPortalConfigurationBusinessProfileParams{Headline: stripego.String("")},
		Features: &stripego.BillingPortalConfigurationFeaturesParams{
			PaymentMethodUpdate: &stripego.BillingPortalConfigurationFeaturesPaymentMethodUpdateParams{
				Enabled: stripego.Bool(f.PaymentMethods),
			},
			InvoiceHistory: &stripego.BillingPortalConfigurationFeaturesInvoiceHistoryParams{Enabled: stripego.Bool(f.Invoices)},
			SubscriptionCancel: &stripego.BillingPortalConfigurationFeaturesSubscriptionCancelParams{
				Enabled: stripego.Bool(f.Cancellation != ""), Mode: stripego.String(f.Cancellation),
			},
			SubscriptionUpdate: &stripego.BillingPortalConfigurationFeaturesSubscriptionUpdateParams{
				Enabled: stripego.Bool(f.Proration != ""),
			},
		},
		Metadata: map[string]string{portalMetadata: string(kind)},
	}
	if f.Proration == "" {
		return params
	}
	update := params.Features.SubscriptionUpdate
	update.DefaultAllowedUpdates = stripego.StringSlice([]string{"price"})
	update.ProrationBehavior = stripego.String(f.Proration)
	for _, o := range a.sold {
		update.Products = append(update.Products, &stripego.BillingPortalConfigurationFeaturesSubscriptionUpdateProductParams{
			Product: stripego.String(o.ProductID), Prices: stripego.StringSlice([]string{o.PriceID}),
		})
	}
	params.Metadata[productsMetadata] = productsOf(a.sold)
	if f.Downgrade != "" {
		putOff(params, f.Downgrade)
	}
	return params
}

func createEndpoint(url string) Change {
	return Change{
		"create", fmt.Sprintf("webhook endpoint %s for %d types of events", url, len(eventTypes)),
		func(ctx context.Context, a *applier) error {
			created, err := a.api.WebhookEndpoints.New(&stripego.WebhookEndpointParams{
				Params: read(ctx), URL: stripego.String(url), APIVersion: stripego.String(stripego.APIVersion),
				EnabledEvents: stripego.StringSlice(eventTypes), Description: stripego.String("Keymeter"),
			})
			if err == nil {
				a.synced.WebhookSecret = created.Secret
			}
			return err
		},
	}
}

func changeEndpoint(id, url string) Change {
	return Change{
		"change", fmt.Sprintf("webhook endpoint %s (%s): enabled, for %d types of events", url, id, len(eventTypes)),
		func(ctx context.Context, a *applier) error {
			_, err := a.api.WebhookEndpoints.Update(id, &stripego.WebhookEndpointParams{
				Params: read(ctx), EnabledEvents: stripego.StringSlice(eventTypes), Disabled: stripego.Bool(false),
			})
			return err
		},
	}
}
