package stripesim

// route is one API endpoint: where it is, what it takes, what it does.
type route struct {
	pattern string
	takes   paramSet
	run     func(*call) (object, *apiError)
}

// The second argument of takes lists what Stripe accepts and the simulator does
// not simulate, so that a caller can tell a typo from a limit of the simulator.
func (s *Sim) routes() []route {
	return []route{
		{"POST /v1/customers", takes(customerParams, customerForeign+" payment_method tax_id_data test_clock"), s.createCustomer},
		{"GET /v1/customers", takes(pageParams+"email", "created test_clock"), s.listCustomers},
		{"GET /v1/customers/{id}", takes("", ""), s.getCustomer},
		{"POST /v1/customers/{id}", takes(customerParams, customerForeign+" default_source"), s.updateCustomer},

		{"GET /v1/prices", takes(pageParams+"active currency lookup_keys[] product type", "created recurring"), s.listPrices},
		{"GET /v1/prices/{id}", takes("", ""), s.getPrice},
		{"GET /v1/products/{id}", takes("", ""), s.getProduct},

		{"POST /v1/checkout/sessions", takes(sessionParams, sessionForeign), s.createSession},
		{"GET /v1/checkout/sessions", takes(pageParams+"customer status subscription", "created customer_details payment_intent payment_link"), s.listSessions},
		{"GET /v1/checkout/sessions/{id}", takes("", ""), s.getSession},
		{"POST /v1/checkout/sessions/{id}/expire", takes("", ""), s.expireSessionCall},

		{"POST /v1/billing_portal/sessions", takes(portalParams, portalForeign), s.createPortal},

		{"GET /v1/subscriptions", takes(pageParams+"customer price status", "automatic_tax collection_method created current_period_end current_period_start test_clock"), s.listSubscriptions},
		{"GET /v1/subscriptions/{id}", takes("", ""), s.getSubscription},
		{"POST /v1/subscriptions/{id}", takes(subscriptionParams, subscriptionForeign), s.updateSubscription},
		{"DELETE /v1/subscriptions/{id}", takes(cancellationParams+"invoice_now prorate", ""), s.deleteSubscription},

		{"GET /v1/invoices/{id}", takes("", ""), s.getInvoice},

		{"GET /v1/events", takes(pageParams+"type types[] delivery_success created[gt] created[gte] created[lt] created[lte]", "created"), s.listEvents},
		{"GET /v1/events/{id}", takes("", ""), s.getEvent},
	}
}

const (
	customerParams  = "email? name? phone? description? metadata{}"
	customerForeign = "address balance cash_balance invoice_prefix invoice_settings next_invoice_sequence preferred_locales shipping source tax tax_exempt"

	// The last line of these are options of the hosted page: checked for their
	// name, echoed where Stripe echoes them, and without effect.
	sessionParams = "mode! line_items[][price] line_items[][quantity] success_url cancel_url customer customer_email " +
		"client_reference_id metadata{} subscription_data[metadata]{} subscription_data[description] expires_at ui_mode " +
		"allow_promotion_codes billing_address_collection locale payment_method_collection payment_method_types[]"
	sessionForeign = "after_expiration automatic_tax consent_collection currency custom_fields custom_text customer_creation " +
		"customer_update discounts invoice_creation payment_intent_data payment_method_configuration " +
		"payment_method_options phone_number_collection redirect_on_completion return_url " +
		"setup_intent_data shipping_address_collection shipping_options submit_type tax_id_collection " +
		"line_items[][adjustable_quantity] line_items[][dynamic_tax_rates] line_items[][price_data] line_items[][tax_rates] " +
		"subscription_data[application_fee_percent] subscription_data[billing_cycle_anchor] subscription_data[default_tax_rates] " +
		"subscription_data[invoice_settings] subscription_data[on_behalf_of] subscription_data[proration_behavior] " +
		"subscription_data[transfer_data] subscription_data[trial_end] subscription_data[trial_period_days] subscription_data[trial_settings]"

	portalParams = "customer! return_url locale flow_data[type] " +
		"flow_data[after_completion][type] flow_data[after_completion][redirect][return_url] " +
		"flow_data[subscription_cancel][subscription] flow_data[subscription_update_confirm][subscription] " +
		"flow_data[subscription_update_confirm][items][][id] flow_data[subscription_update_confirm][items][][price] " +
		"flow_data[subscription_update_confirm][items][][quantity]"
	portalForeign = "configuration on_behalf_of flow_data[subscription_update] flow_data[subscription_cancel][retention] " +
		"flow_data[subscription_update_confirm][discounts] flow_data[after_completion][hosted_confirmation]"

	cancellationParams = "cancellation_details[comment]? cancellation_details[feedback]? "
	subscriptionParams = cancellationParams + "cancel_at_period_end description? items[][id] items[][price] items[][quantity] metadata{} " +
		"payment_behavior proration_behavior"
	subscriptionForeign = "add_invoice_items application_fee_percent automatic_tax billing_cycle_anchor billing_thresholds cancel_at " +
		"collection_method days_until_due default_payment_method default_source default_tax_rates discounts invoice_settings " +
		"off_session on_behalf_of pause_collection payment_settings pending_invoice_item_interval proration_date transfer_data " +
		"trial_end trial_from_plan trial_settings items[][billing_thresholds] items[][clear_usage] items[][deleted] " +
		"items[][discounts] items[][metadata] items[][price_data] items[][tax_rates]"
)
