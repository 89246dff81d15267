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
		{"GET /v1/customers", takes(pageParams+createdParams+"email", "test_clock"), s.listCustomers},
		{"GET /v1/customers/{id}", takes("", ""), s.getCustomer},
		{"DELETE /v1/customers/{id}", takes("", ""), s.deleteCustomer},
		{"POST /v1/customers/{id}", takes(customerParams, customerForeign+" default_source"), s.updateCustomer},

		{"GET /v1/prices", takes(pageParams+"active currency lookup_keys[] product type", "created recurring"), s.listPrices},
		{"POST /v1/prices", takes(priceParams+newPriceParams, priceForeign), s.createPrice},
		{"GET /v1/prices/{id}", takes("", ""), s.getPrice},
		{"POST /v1/prices/{id}", takes(priceParams, priceForeign), s.updatePrice},
		{"POST /v1/products", takes(productParams+"id name! type", productForeign), s.createProduct},
		{"GET /v1/products", takes(pageParams+createdParams+"active ids[]", "shippable type url"), s.listProducts},
		{"GET /v1/products/{id}", takes("", ""), s.getProduct},
		{"POST /v1/products/{id}", takes(productParams+"name", productForeign), s.updateProduct},

		{"POST /v1/checkout/sessions", takes(sessionParams, sessionForeign), s.createSession},
		{"GET /v1/checkout/sessions", takes(pageParams+createdParams+"customer payment_intent status subscription", "customer_details payment_link"), s.listSessions},
		{"GET /v1/checkout/sessions/{id}", takes("", ""), s.getSession},
		{"POST /v1/checkout/sessions/{id}/expire", takes("", ""), s.expireSessionCall},

		{"POST /v1/billing_portal/configurations", takes(configParams+"features[subscription_update][enabled]", configForeign), s.createConfig},
		{"GET /v1/billing_portal/configurations", takes(pageParams+"active is_default", ""), s.listConfigs},
		{"GET /v1/billing_portal/configurations/{id}", takes("", ""), s.getConfig},
		{"POST /v1/billing_portal/configurations/{id}", takes(configParams+"features[subscription_update][enabled] active", configForeign), s.updateConfig},
		{"POST /v1/billing_portal/sessions", takes(portalParams, portalForeign), s.createPortal},

		{"POST /v1/subscriptions", takes(newSubscriptionParams, newSubscriptionForeign), s.createSubscription},
		{"POST /v1/subscriptions/{id}/resume", takes("billing_cycle_anchor proration_behavior", "proration_date"), s.resumeSubscription},
		{"GET /v1/subscriptions", takes(pageParams+createdParams+"customer price status", "automatic_tax collection_method current_period_end current_period_start test_clock"), s.listSubscriptions},
		{"GET /v1/subscriptions/{id}", takes("", ""), s.getSubscription},
		{"POST /v1/subscriptions/{id}", takes(subscriptionParams, subscriptionForeign), s.updateSubscription},
		{"DELETE /v1/subscriptions/{id}", takes(cancellationParams+"invoice_now prorate", ""), s.deleteSubscription},

		{"POST /v1/subscription_schedules", takes("", ""), nil},
		{"GET /v1/subscription_schedules", takes(pageParams+createdParams+"customer", "canceled_at completed_at released_at scheduled"), s.listSchedules},
		{"GET /v1/subscription_schedules/{id}", takes("", ""), s.getSchedule},
		{"POST /v1/subscription_schedules/{id}/release", takes("", "preserve_cancel_date"), s.releaseSchedule},

		{"POST /v1/invoices", takes(invoiceParams, invoiceForeign), s.createInvoice},
		{"GET /v1/invoices", takes(pageParams+createdParams+"customer subscription status collection_method", "due_date"), s.listInvoices},
		{"GET /v1/invoices/upcoming", takes("", ""), nil}, // not an invoice of that id
		{"POST /v1/invoices/create_preview", takes("", ""), nil},
		{"GET /v1/customers/search", takes("", ""), nil},
		{"GET /v1/invoices/search", takes("", ""), nil},
		{"GET /v1/subscriptions/search", takes("", ""), nil},
		{"GET /v1/invoices/{id}", takes("", ""), s.getInvoice},
		{"POST /v1/invoices/{id}", takes("auto_advance description? metadata{}", invoiceForeign), s.updateInvoice},
		{"GET /v1/invoices/{id}/lines", takes(pageParams, ""), s.listLines},
		{"POST /v1/invoices/{id}/finalize", takes("auto_advance", ""), s.finalizeInvoice},
		{"POST /v1/invoices/{id}/pay", takes("off_session paid_out_of_band", "forgive mandate payment_method source"), s.payInvoice},
		{"POST /v1/invoices/{id}/void", takes("", ""), s.voidInvoice},
		{"POST /v1/invoices/{id}/mark_uncollectible", takes("", ""), s.markUncollectible},

		{"POST /v1/invoiceitems", takes(itemParams+"customer! currency invoice subscription", itemForeign), s.createItem},
		{"GET /v1/invoiceitems", takes(pageParams+createdParams+"customer invoice pending", ""), s.listItems},
		{"GET /v1/invoiceitems/{id}", takes("", ""), s.getItem},
		{"POST /v1/invoiceitems/{id}", takes(itemParams, itemForeign), s.updateItem},
		{"DELETE /v1/invoiceitems/{id}", takes("", ""), s.deleteItem},

		{"GET /v1/charges", takes(pageParams+createdParams+"customer payment_intent", "transfer_group"), s.listCharges},
		{"GET /v1/charges/{id}", takes("", ""), s.getCharge},
		{"POST /v1/refunds", takes("amount charge payment_intent metadata{} reason", "currency customer instructions_email origin refund_application_fee reverse_transfer"), s.createRefund},
		{"GET /v1/refunds", takes(pageParams+createdParams+"charge payment_intent", ""), s.listRefunds},
		{"GET /v1/refunds/{id}", takes("", ""), s.getRefund},
		{"GET /v1/disputes", takes(pageParams+createdParams+"charge payment_intent", ""), s.listDisputes},
		{"GET /v1/disputes/{id}", takes("", ""), s.getDispute},
		{"GET /v1/payment_intents", takes(pageParams+createdParams+"customer", ""), s.listIntents},
		{"GET /v1/payment_intents/{id}", takes("", "client_secret"), s.getIntent},

		{"POST /v1/webhook_endpoints", takes(endpointParams+"url! enabled_events[]! api_version", "connect"), s.createEndpoint},
		{"GET /v1/webhook_endpoints", takes(pageParams, ""), s.listEndpoints},
		{"GET /v1/webhook_endpoints/{id}", takes("", ""), s.getEndpoint},
		{"POST /v1/webhook_endpoints/{id}", takes(endpointParams+"url enabled_events[] disabled", ""), s.updateEndpoint},
		{"DELETE /v1/webhook_endpoints/{id}", takes("", ""), s.deleteEndpoint},

		{"GET /v1/events", takes(pageParams+createdParams+"type types[] delivery_success", ""), s.listEvents},
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
		"subscription_data[trial_period_days] subscription_data[trial_settings][end_behavior][missing_payment_method] " +
		"payment_intent_data[metadata]{} payment_intent_data[description] customer_creation " +
		"line_items[][price_data][currency] line_items[][price_data][unit_amount] line_items[][price_data][product] " +
		"line_items[][price_data][product_data][name] " +
		"allow_promotion_codes billing_address_collection locale payment_method_collection payment_method_types[]"
	sessionForeign = "after_expiration automatic_tax consent_collection currency custom_fields custom_text " +
		"customer_update discounts invoice_creation payment_intent_data payment_method_configuration " +
		"payment_method_options phone_number_collection redirect_on_completion return_url " +
		"setup_intent_data shipping_address_collection shipping_options submit_type tax_id_collection " +
		"line_items[][adjustable_quantity] line_items[][dynamic_tax_rates] line_items[][price_data] line_items[][tax_rates] " +
		"subscription_data[application_fee_percent] subscription_data[billing_cycle_anchor] subscription_data[default_tax_rates] " +
		"subscription_data[invoice_settings] subscription_data[on_behalf_of] subscription_data[proration_behavior] " +
		"subscription_data[transfer_data] subscription_data[trial_end]"

	priceParams    = "active lookup_key? transfer_lookup_key nickname? metadata{} "
	newPriceParams = "billing_scheme currency! product product_data[name] unit_amount unit_amount_decimal recurring[interval] " +
		"recurring[interval_count] recurring[usage_type]"
	priceForeign = "currency_options custom_unit_amount tax_behavior tiers tiers_mode transform_quantity recurring[aggregate_usage] " +
		"recurring[meter] recurring[trial_period_days] product_data"
	productParams  = "active description? metadata{} "
	productForeign = "default_price default_price_data features images marketing_features package_dimensions shippable " +
		"statement_descriptor tax_code unit_label url"

	configParams = "business_profile[headline]? business_profile[privacy_policy_url]? business_profile[terms_of_service_url]? " +
		"default_return_url? metadata{} features[customer_update][enabled] features[customer_update][allowed_updates][] " +
		"features[invoice_history][enabled] features[payment_method_update][enabled] features[subscription_cancel][enabled] " +
		"features[subscription_cancel][mode] features[subscription_cancel][proration_behavior] " +
		"features[subscription_update][default_allowed_updates][] features[subscription_update][products][][product] " +
		"features[subscription_update][products][][prices][] features[subscription_update][proration_behavior] " +
		"features[subscription_update][schedule_at_period_end][conditions][][type] "
	configForeign = "login_page features[subscription_cancel][cancellation_reason] features[subscription_pause] name"

	portalParams = "configuration customer! return_url locale flow_data[type] " +
		"flow_data[after_completion][type] flow_data[after_completion][redirect][return_url] " +
		"flow_data[subscription_cancel][subscription] flow_data[subscription_update_confirm][subscription] " +
		"flow_data[subscription_update_confirm][items][][id] flow_data[subscription_update_confirm][items][][price] " +
		"flow_data[subscription_update_confirm][items][][quantity]"
	portalForeign = "on_behalf_of flow_data[subscription_update] flow_data[subscription_cancel][retention] " +
		"flow_data[subscription_update_confirm][discounts] flow_data[after_completion][hosted_confirmation]"

	invoiceParams = "auto_advance collection_method currency customer! description? metadata{} pending_invoice_items_behavior " +
		"subscription"
	invoiceForeign = "account_tax_ids application_fee_amount automatic_tax custom_fields days_until_due default_payment_method " +
		"default_source default_tax_rates discounts due_date effective_at footer from_invoice issuer number on_behalf_of " +
		"payment_settings rendering rendering_options shipping_cost shipping_details statement_descriptor transfer_data"
	itemParams  = "amount description? metadata{} period[start] period[end] price quantity unit_amount unit_amount_decimal "
	itemForeign = "discountable discounts price_data tax_behavior tax_code tax_rates"

	endpointParams = "description? metadata{} "

	cancellationParams = "cancellation_details[comment]? cancellation_details[feedback]? "
	subscriptionParams = cancellationParams + "cancel_at_period_end description? items[][id] items[][price] items[][quantity] metadata{} " +
		"pause_collection? pause_collection[behavior] pause_collection[resumes_at] payment_behavior proration_behavior proration_date"
	newSubscriptionParams = "customer! items[][price]! items[][quantity] cancel_at_period_end description metadata{} off_session " +
		"payment_behavior proration_behavior trial_period_days trial_end trial_settings[end_behavior][missing_payment_method]"
	newSubscriptionForeign = "add_invoice_items application_fee_percent automatic_tax backdate_start_date billing_cycle_anchor " +
		"billing_cycle_anchor_config billing_thresholds cancel_at collection_method currency days_until_due " +
		"default_payment_method default_source default_tax_rates discounts invoice_settings on_behalf_of payment_settings " +
		"pending_invoice_item_interval transfer_data trial_from_plan items[][billing_thresholds] items[][discounts] " +
		"items[][metadata] items[][price_data] items[][tax_rates]"
	subscriptionForeign = "add_invoice_items application_fee_percent automatic_tax billing_cycle_anchor billing_thresholds cancel_at " +
		"collection_method days_until_due default_payment_method default_source default_tax_rates discounts invoice_settings " +
		"off_session on_behalf_of payment_settings pending_invoice_item_interval transfer_data " +
		"trial_end trial_from_plan trial_settings items[][billing_thresholds] items[][clear_usage] items[][deleted] " +
		"items[][discounts] items[][metadata] items[][price_data] items[][tax_rates]"
)
