package stripe

import (
	"context"

	stripego "github.com/stripe/stripe-go/v76"

	"github.com/keymeter/keymeter/internal/billing"
)

// CreatePortal creates a portal session, on its first page.
func (c *Client) CreatePortal(ctx context.Context, customerID, returnURL, key string) (billing.Session, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	params := &stripego.BillingPortalSessionParams{
		Params: write(ctx, "keymeter:portal:"+key), Customer: stripego.String(customerID),
	}
	if returnURL != "" {
		params.ReturnURL = stripego.String(returnURL)
	}
	return c.portal(ctx, portalHome, params)
}

// CreatePlanChange creates a portal session that shows the change of plan with its proration, or from when it counts, and
// asks to confirm it.
//
// While a change is scheduled, Stripe's confirm page would stack another one onto it, for a period later. The portal's
// first page offers to cancel what is scheduled, and a change after that.
func (c *Client) CreatePlanChange(ctx context.Context, p billing.PlanChange) (billing.Session, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	params := &stripego.BillingPortalSessionParams{
		Params:    write(ctx, "keymeter:plan-change:"+p.Key),
		Customer:  stripego.String(p.CustomerID),
		ReturnURL: stripego.String(p.CancelURL),
	}
	if p.Subscription.Scheduled {
		params.Params = write(ctx, "keymeter:scheduled-change:"+p.Key) // it says something else than the confirm page
		return c.portal(ctx, portalPlanChange, params)
	}
	priceID, err := c.price(ctx, p.Plan)
	if err != nil {
		return billing.Session{}, err
	}
	params.FlowData = &stripego.BillingPortalSessionFlowDataParams{
		Type: stripego.String(string(stripego.BillingPortalSessionFlowTypeSubscriptionUpdateConfirm)),
		AfterCompletion: &stripego.BillingPortalSessionFlowDataAfterCompletionParams{
			Type: stripego.String(string(stripego.BillingPortalSessionFlowAfterCompletionTypeRedirect)),
			Redirect: &stripego.BillingPortalSessionFlowDataAfterCompletionRedirectParams{
				ReturnURL: stripego.String(p.SuccessURL),
			},
		},
		SubscriptionUpdateConfirm: &stripego.BillingPortalSessionFlowDataSubscriptionUpdateConfirmParams{
			Subscription: stripego.String(p.Subscription.ID),
			Items: []*stripego.BillingPortalSessionFlowDataSubscriptionUpdateConfirmItemParams{{
				ID: stripego.String(p.Subscription.ItemID), Price: stripego.String(priceID), Quantity: stripego.Int64(1),
			}},
		},
	}
	return c.portal(ctx, portalPlanChange, params)
}

// portal creates a session under our configuration, or under the account's own if a sync has never made ours.
func (c *Client) portal(
	ctx context.Context, kind portalKind, params *stripego.BillingPortalSessionParams,
) (billing.Session, error) {
	configurationID, err := c.portalConfiguration(ctx, kind)
	if err != nil {
		return billing.Session{}, err
	}
	if configurationID != "" {
		params.Configuration = stripego.String(configurationID)
	}
	session, err := c.api.BillingPortalSessions.New(params)
	if err != nil {
		return billing.Session{}, failed("create the portal session", err)
	}
	return billing.Session{ID: session.ID, URL: session.URL}, nil
}

// portalConfiguration returns the id of one of our portal configurations, "" if there is none.
func (c *Client) portalConfiguration(ctx context.Context, kind portalKind) (string, error) {
	list := c.api.BillingPortalConfigurations.List(&stripego.BillingPortalConfigurationListParams{
		ListParams: page(ctx), Active: stripego.Bool(true),
	})
	for list.Next() {
		if list.BillingPortalConfiguration().Metadata[portalMetadata] == string(kind) {
			return list.BillingPortalConfiguration().ID, nil
		}
	}
	return "", failed("list portal configurations", list.Err())
}
