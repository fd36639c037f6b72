/*
 * domain_root.c: which part of a domain a company chose, and which domains belong to many.
 *
 * The root of acme.de, www.acme.co.uk and eu.acme.com is acme: the label before what registries and hosting services sell
 * names under. Which these are is no full public suffix list, but what companies commonly have: a top-level domain, one of the
 * usual second levels below a country's, or a hosting service. A hosting service's own domain names no company.
 */
#include "agents/accounts.h"

/* Second levels that names are registered under below two-letter top-level domains. */
static const char *const second_levels[] = {
	"ac", "asn", "asso", "biz", "co", "com", "edu", "firm", "go", "gob", "gouv", "gov", "govt", "gv", "id", "ind", "info", "ltd", "me", "ne", "net",
	"nhs", "nom", "or", "org", "plc", "pp", "school", "sch", "tm", "web"
};

/* Services under whose domains, or whose one domain, many have their site or their mail. */
static const char *const hosts[] = {
	"amazonaws.com", "appspot.com", "azurewebsites.net", "bitbucket.io", "blogspot.com", "business.site", "carrd.co", "cloudfront.net",
	"facebook.com", "firebaseapp.com", "fly.dev", "github.com", "github.io", "gitlab.io", "godaddysites.com", "herokuapp.com", "instagram.com",
	"jimdo.com", "jimdofree.com", "jimdosite.com", "linkedin.com", "linktr.ee", "medium.com", "myshopify.com", "netlify.app", "notion.site",
	"onmicrosoft.com", "onrender.com", "pages.dev", "shopify.com", "sites.google.com", "squarespace.com", "strikingly.com", "substack.com",
	"tumblr.com", "twitter.com", "vercel.app", "web.app", "webflow.io", "webnode.com", "weebly.com", "wix.com", "wixsite.com", "wordpress.com",
	"workers.dev", "x.com", "xing.com", "youtube.com"
};

static const char *find_host(const char *domain, int length);

/* Tells whether a domain in normal form is that of a hosting service itself. */
bool
lr_domain_is_host(const char *domain, int length)
{
	return find_host(domain, length) == domain;
}

/* Finds the root of a domain in normal form; false if it has none: a hosting service's, or a bare suffix. */
bool
lr_domain_root(const char *domain, int length, const char **root, int *root_length)
{
	const char *end = domain + length;
	const char *suffix = find_host(domain, length);
	const char *start;

	if (suffix == NULL)
	{
		const char *second;

		for (suffix = end; suffix > domain && suffix[-1] != '.';)
			suffix--;
		if (suffix == domain)
			return false;
		for (second = suffix - 1; second > domain && second[-1] != '.';)
			second--;
		for (int i = 0; end - suffix == 2 && i < (int) lengthof(second_levels); i++)
		{
			if ((int) strlen(second_levels[i]) == suffix - 1 - second && memcmp(second_levels[i], second, suffix - 1 - second) == 0)
			{
				suffix = second;
				break;
			}
		}
	}
	if (suffix == domain)
		return false;
	for (start = suffix - 1; start > domain && start[-1] != '.';)
		start--;
	*root = start;
	*root_length = suffix - 1 - start;
	return *root_length > 0;
}

/* Finds where the hosting service's domain begins within a domain; NULL if it is of none. */
static const char *
find_host(const char *domain, int length)
{
	for (int i = 0; i < (int) lengthof(hosts); i++)
	{
		int			n = strlen(hosts[i]);

		if (length >= n && memcmp(domain + length - n, hosts[i], n) == 0 && (length == n || domain[length - n - 1] == '.'))
			return domain + length - n;
	}
	return NULL;
}
