/*
 * mail_domains.c
 *	  Mail domains that belong to no company, local parts that belong to nobody.
 *
 * A lead's domain says which company it comes from unless it is that of a
 * mail service for everybody (webmail, the mailboxes of internet providers) or
 * of one that hands out addresses to be thrown away.  The lists hold what is
 * common world-wide, not everything: a domain that is missing counts as a
 * business domain, which a firmographics table then does not know.
 *
 * Role local parts are those of RFC 2142 and what companies use for the same
 * purpose in several European languages.
 *
 * Each list is ordered, for those who edit it.  Look-ups go through a hash
 * index in static memory, filled when first needed; most are for names that
 * are in no list and end at an empty slot.
 */
#include "postgres.h"

#include "contact.h"

typedef struct ListedName
{
	const char *name;
	uint8		len;
	uint8		kind;			/* an LrMailKind, where it matters */
} ListedName;

#define FREE(name)	{name, sizeof(name) - 1, LR_MAIL_FREE}
#define DISP(name)	{name, sizeof(name) - 1, LR_MAIL_DISPOSABLE}
#define ROLE(name)	{name, sizeof(name) - 1, 0}

static const ListedName mail_domains[] =
{
	/* mail services for everybody */
	FREE("126.com"), FREE("139.com"), FREE("163.com"), FREE("188.com"),
	FREE("189.cn"), FREE("21cn.com"), FREE("abv.bg"), FREE("aim.com"),
	FREE("alice.it"), FREE("aliceadsl.fr"), FREE("aliyun.com"),
	FREE("aol.co.uk"), FREE("aol.com"), FREE("aol.de"), FREE("aol.es"),
	FREE("aol.fr"), FREE("aol.it"), FREE("aon.at"), FREE("arcor.de"),
	FREE("atlas.cz"), FREE("att.net"), FREE("au.com"),
	FREE("autorambler.ru"), FREE("azet.sk"), FREE("bbox.fr"),
	FREE("bellsouth.net"), FREE("biglobe.ne.jp"), FREE("bigmir.net"),
	FREE("bigpond.com"), FREE("bigpond.net.au"), FREE("bk.ru"),
	FREE("bluewin.ch"), FREE("blueyonder.co.uk"), FREE("bol.com.br"),
	FREE("btinternet.com"), FREE("btopenworld.com"), FREE("casema.nl"),
	FREE("centrum.cz"), FREE("centrum.sk"), FREE("centurylink.net"),
	FREE("charter.net"), FREE("chello.at"), FREE("chello.nl"),
	FREE("citromail.hu"), FREE("club-internet.fr"), FREE("comcast.net"),
	FREE("consultant.com"), FREE("cox.net"), FREE("daum.net"),
	FREE("dir.bg"), FREE("disroot.org"), FREE("docomo.ne.jp"),
	FREE("duck.com"), FREE("earthlink.net"), FREE("eircom.net"),
	FREE("email.com"), FREE("email.cz"), FREE("email.de"),
	FREE("email.it"), FREE("engineer.com"), FREE("europe.com"),
	FREE("excite.co.jp"), FREE("excite.com"), FREE("ezweb.ne.jp"),
	FREE("fastmail.com"), FREE("fastmail.fm"), FREE("fastwebnet.it"),
	FREE("foxmail.com"), FREE("free.fr"), FREE("freemail.hu"),
	FREE("freenet.de"), FREE("frontier.com"), FREE("gazeta.pl"),
	FREE("globo.com"), FREE("globomail.com"), FREE("gmail.com"),
	FREE("gmx.at"), FREE("gmx.ch"), FREE("gmx.co.uk"), FREE("gmx.com"),
	FREE("gmx.de"), FREE("gmx.es"), FREE("gmx.eu"), FREE("gmx.fr"),
	FREE("gmx.net"), FREE("gmx.us"), FREE("googlemail.com"),
	FREE("hanmail.net"), FREE("hetnet.nl"), FREE("hey.com"),
	FREE("hinet.net"), FREE("hispeed.ch"), FREE("home.nl"),
	FREE("hotmail.be"), FREE("hotmail.ca"), FREE("hotmail.ch"),
	FREE("hotmail.co.jp"), FREE("hotmail.co.th"), FREE("hotmail.co.uk"),
	FREE("hotmail.com"), FREE("hotmail.com.ar"), FREE("hotmail.com.au"),
	FREE("hotmail.com.br"), FREE("hotmail.com.tr"), FREE("hotmail.de"),
	FREE("hotmail.dk"), FREE("hotmail.es"), FREE("hotmail.fi"),
	FREE("hotmail.fr"), FREE("hotmail.gr"), FREE("hotmail.hu"),
	FREE("hotmail.it"), FREE("hotmail.nl"), FREE("hotmail.no"),
	FREE("hotmail.se"), FREE("hushmail.com"), FREE("i.softbank.jp"),
	FREE("i.ua"), FREE("icloud.com"), FREE("ig.com.br"),
	FREE("iinet.net.au"), FREE("in.com"), FREE("iname.com"),
	FREE("inbox.com"), FREE("inbox.lt"), FREE("inbox.lv"),
	FREE("inbox.ru"), FREE("indamail.hu"), FREE("indiatimes.com"),
	FREE("interia.eu"), FREE("interia.pl"), FREE("internet.ru"),
	FREE("inwind.it"), FREE("iol.it"), FREE("jubii.dk"), FREE("juno.com"),
	FREE("kabelmail.de"), FREE("kakao.com"), FREE("keemail.me"),
	FREE("kpnmail.nl"), FREE("laposte.net"), FREE("lenta.ru"),
	FREE("libero.it"), FREE("list.ru"), FREE("live.at"), FREE("live.be"),
	FREE("live.ca"), FREE("live.ch"), FREE("live.cl"), FREE("live.cn"),
	FREE("live.co.uk"), FREE("live.co.za"), FREE("live.com"),
	FREE("live.com.ar"), FREE("live.com.au"), FREE("live.com.mx"),
	FREE("live.com.pt"), FREE("live.com.sg"), FREE("live.de"),
	FREE("live.dk"), FREE("live.fi"), FREE("live.fr"), FREE("live.hk"),
	FREE("live.ie"), FREE("live.in"), FREE("live.it"), FREE("live.jp"),
	FREE("live.nl"), FREE("live.no"), FREE("live.ru"), FREE("live.se"),
	FREE("luukku.com"), FREE("lycos.com"), FREE("mac.com"),
	FREE("mail.bg"), FREE("mail.com"), FREE("mail.de"), FREE("mail.ee"),
	FREE("mail.ru"), FREE("mailbox.org"), FREE("mailfence.com"),
	FREE("me.com"), FREE("meta.ua"), FREE("msn.com"), FREE("mweb.co.za"),
	FREE("mynet.com"), FREE("myself.com"), FREE("myyahoo.com"),
	FREE("nate.com"), FREE("naver.com"), FREE("netzero.net"),
	FREE("neuf.fr"), FREE("nifty.com"), FREE("ntlworld.com"),
	FREE("numericable.fr"), FREE("o2.pl"), FREE("one.lt"),
	FREE("onet.eu"), FREE("onet.pl"), FREE("online.de"),
	FREE("online.no"), FREE("op.pl"), FREE("optonline.net"),
	FREE("optusnet.com.au"), FREE("orange.fr"), FREE("outlook.at"),
	FREE("outlook.be"), FREE("outlook.cl"), FREE("outlook.co.id"),
	FREE("outlook.co.th"), FREE("outlook.com"), FREE("outlook.com.ar"),
	FREE("outlook.com.au"), FREE("outlook.com.br"), FREE("outlook.com.gr"),
	FREE("outlook.com.tr"), FREE("outlook.com.vn"), FREE("outlook.cz"),
	FREE("outlook.de"), FREE("outlook.dk"), FREE("outlook.es"),
	FREE("outlook.fr"), FREE("outlook.hu"), FREE("outlook.ie"),
	FREE("outlook.in"), FREE("outlook.it"), FREE("outlook.jp"),
	FREE("outlook.kr"), FREE("outlook.lv"), FREE("outlook.my"),
	FREE("outlook.ph"), FREE("outlook.pt"), FREE("outlook.sa"),
	FREE("outlook.sg"), FREE("outlook.sk"), FREE("passagen.se"),
	FREE("passport.com"), FREE("pchome.com.tw"), FREE("planet.nl"),
	FREE("pm.me"), FREE("pobox.com"), FREE("pobox.sk"), FREE("poczta.fm"),
	FREE("poczta.onet.pl"), FREE("post.com"), FREE("post.cz"),
	FREE("posteo.de"), FREE("posteo.net"),
	FREE("privaterelay.appleid.com"), FREE("proton.me"),
	FREE("protonmail.ch"), FREE("protonmail.com"), FREE("qq.com"),
	FREE("r7.com"), FREE("rambler.ru"), FREE("rediffmail.com"),
	FREE("riseup.net"), FREE("roadrunner.com"), FREE("rocketmail.com"),
	FREE("rogers.com"), FREE("runbox.com"), FREE("sapo.pt"),
	FREE("sbcglobal.net"), FREE("seznam.cz"), FREE("sfr.fr"),
	FREE("shaw.ca"), FREE("sify.com"), FREE("sina.cn"), FREE("sina.com"),
	FREE("sky.com"), FREE("skynet.be"), FREE("softbank.ne.jp"),
	FREE("sohu.com"), FREE("spray.se"), FREE("startmail.com"),
	FREE("suomi24.fi"), FREE("sympatico.ca"), FREE("t-online.de"),
	FREE("talktalk.net"), FREE("telefonica.net"), FREE("telenet.be"),
	FREE("telus.net"), FREE("terra.com.br"), FREE("terra.es"),
	FREE("tim.it"), FREE("tin.it"), FREE("tiscali.co.uk"),
	FREE("tiscali.it"), FREE("tlen.pl"), FREE("tom.com"), FREE("tut.by"),
	FREE("tuta.com"), FREE("tuta.io"), FREE("tutamail.com"),
	FREE("tutanota.com"), FREE("tutanota.de"), FREE("ukr.net"),
	FREE("unitybox.de"), FREE("uol.com.br"), FREE("upcmail.nl"),
	FREE("usa.com"), FREE("verizon.net"), FREE("videotron.ca"),
	FREE("vip.163.com"), FREE("vip.qq.com"), FREE("virgilio.it"),
	FREE("virginmedia.com"), FREE("vodamail.co.za"), FREE("volny.cz"),
	FREE("vp.pl"), FREE("walla.co.il"), FREE("walla.com"),
	FREE("wanadoo.fr"), FREE("web.de"), FREE("webmail.co.za"),
	FREE("windowslive.com"), FREE("windstream.net"), FREE("wo.cn"),
	FREE("wp.pl"), FREE("xs4all.nl"), FREE("xtra.co.nz"), FREE("ya.ru"),
	FREE("yahoo.ca"), FREE("yahoo.co.id"), FREE("yahoo.co.in"),
	FREE("yahoo.co.jp"), FREE("yahoo.co.kr"), FREE("yahoo.co.nz"),
	FREE("yahoo.co.th"), FREE("yahoo.co.uk"), FREE("yahoo.co.za"),
	FREE("yahoo.com"), FREE("yahoo.com.ar"), FREE("yahoo.com.au"),
	FREE("yahoo.com.br"), FREE("yahoo.com.cn"), FREE("yahoo.com.hk"),
	FREE("yahoo.com.mx"), FREE("yahoo.com.my"), FREE("yahoo.com.ph"),
	FREE("yahoo.com.sg"), FREE("yahoo.com.tr"), FREE("yahoo.com.tw"),
	FREE("yahoo.com.vn"), FREE("yahoo.de"), FREE("yahoo.dk"),
	FREE("yahoo.es"), FREE("yahoo.fr"), FREE("yahoo.gr"),
	FREE("yahoo.ie"), FREE("yahoo.in"), FREE("yahoo.it"),
	FREE("yahoo.ne.jp"), FREE("yahoo.nl"), FREE("yahoo.no"),
	FREE("yahoo.pl"), FREE("yahoo.ro"), FREE("yahoo.se"),
	FREE("yandex.by"), FREE("yandex.com"), FREE("yandex.kz"),
	FREE("yandex.ru"), FREE("yandex.ua"), FREE("yeah.net"),
	FREE("ymail.com"), FREE("ziggo.nl"), FREE("zipmail.com.br"),
	FREE("zoho.com"), FREE("zoho.eu"), FREE("zohomail.com"),
	FREE("zohomail.eu"), FREE("zohomail.in"), FREE("zoznam.sk"),

	/* addresses to be thrown away */
	DISP("10minutemail.com"), DISP("10minutemail.net"),
	DISP("1secmail.com"), DISP("anonbox.net"), DISP("armyspy.com"),
	DISP("burnermail.io"), DISP("byom.de"), DISP("cuvox.de"),
	DISP("dayrep.com"), DISP("discard.email"), DISP("discardmail.com"),
	DISP("dispostable.com"), DISP("einrot.com"), DISP("emailondeck.com"),
	DISP("fakeinbox.com"), DISP("fleckens.hu"), DISP("getnada.com"),
	DISP("grr.la"), DISP("guerrillamail.biz"), DISP("guerrillamail.com"),
	DISP("guerrillamail.de"), DISP("guerrillamail.info"),
	DISP("guerrillamail.net"), DISP("guerrillamail.org"),
	DISP("guerrillamailblock.com"), DISP("gustr.com"),
	DISP("harakirimail.com"), DISP("inboxkitten.com"), DISP("jetable.org"),
	DISP("jourrapide.com"), DISP("mailcatch.com"), DISP("maildrop.cc"),
	DISP("mailinator.com"), DISP("mailnesia.com"), DISP("mailnull.com"),
	DISP("mintemail.com"), DISP("minuteinbox.com"), DISP("moakt.com"),
	DISP("mohmal.com"), DISP("muellmail.com"), DISP("mytemp.email"),
	DISP("nada.email"), DISP("rhyta.com"), DISP("sharklasers.com"),
	DISP("spam4.me"), DISP("spamgourmet.com"), DISP("spoofmail.de"),
	DISP("superrito.com"), DISP("teleworm.us"), DISP("temp-mail.io"),
	DISP("temp-mail.org"), DISP("tempail.com"), DISP("tempinbox.com"),
	DISP("tempmail.com"), DISP("tempmail.net"), DISP("tempmailo.com"),
	DISP("throwawaymail.com"), DISP("tmpmail.org"), DISP("trash-mail.com"),
	DISP("trashmail.com"), DISP("trashmail.de"), DISP("trashmail.net"),
	DISP("wegwerfmail.de"), DISP("wegwerfmail.net"),
	DISP("wegwerfmail.org"), DISP("yopmail.com"), DISP("yopmail.fr"),
	DISP("yopmail.net")
};

static const ListedName role_local_parts[] =
{
	ROLE("abuse"), ROLE("accounting"), ROLE("accounts"), ROLE("accueil"),
	ROLE("achats"), ROLE("acquisti"), ROLE("admin"),
	ROLE("administracion"), ROLE("administratie"), ROLE("administrator"),
	ROLE("amministrazione"), ROLE("anfrage"), ROLE("asiakaspalvelu"),
	ROLE("assistenza"), ROLE("atencion"), ROLE("atencionalcliente"),
	ROLE("bestellung"), ROLE("bewerbung"), ROLE("billing"), ROLE("biuro"),
	ROLE("boekhouding"), ROLE("bonjour"), ROLE("booking"),
	ROLE("bookings"), ROLE("buchhaltung"), ROLE("buero"), ROLE("careers"),
	ROLE("clientes"), ROLE("comercial"), ROLE("commercial"),
	ROLE("commerciale"), ROLE("compras"), ROLE("comptabilite"),
	ROLE("contact"), ROLE("contacto"), ROLE("contacts"), ROLE("contato"),
	ROLE("contatti"), ROLE("customercare"), ROLE("customerservice"),
	ROLE("datenschutz"), ROLE("direction"), ROLE("direzione"),
	ROLE("do-not-reply"), ROLE("donotreply"), ROLE("dpo"),
	ROLE("einkauf"), ROLE("ekonomi"), ROLE("email"), ROLE("empfang"),
	ROLE("enquiries"), ROLE("enquiry"), ROLE("ertekesites"),
	ROLE("facturacion"), ROLE("facturation"), ROLE("fakturace"),
	ROLE("feedback"), ROLE("finance"), ROLE("financeiro"),
	ROLE("firmapost"), ROLE("forsaljning"), ROLE("ftp"), ROLE("gdpr"),
	ROLE("geral"), ROLE("hello"), ROLE("help"), ROLE("helpdesk"),
	ROLE("hostmaster"), ROLE("hr"), ROLE("info"), ROLE("inkoop"),
	ROLE("inquiries"), ROLE("invoice"), ROLE("invoices"), ROLE("iroda"),
	ROLE("it"), ROLE("jobs"), ROLE("klantenservice"), ROLE("kontakt"),
	ROLE("ksiegowosc"), ROLE("kundendienst"), ROLE("kundenservice"),
	ROLE("kundservice"), ROLE("kundtjanst"), ROLE("legal"), ROLE("mail"),
	ROLE("mailer-daemon"), ROLE("marketing"), ROLE("media"),
	ROLE("myynti"), ROLE("news"), ROLE("newsletter"), ROLE("no-reply"),
	ROLE("no.reply"), ROLE("no_reply"), ROLE("noc"), ROLE("noreply"),
	ROLE("obchod"), ROLE("objednavky"), ROLE("office"), ROLE("oficina"),
	ROLE("order"), ROLE("orders"), ROLE("ordini"), ROLE("post"),
	ROLE("postmaster"), ROLE("pr"), ROLE("press"), ROLE("presse"),
	ROLE("privacy"), ROLE("procurement"), ROLE("purchasing"),
	ROLE("recepcion"), ROLE("receptie"), ROLE("reception"),
	ROLE("rechnung"), ROLE("recruiting"), ROLE("recruitment"),
	ROLE("recrutement"), ROLE("reservations"), ROLE("rh"), ROLE("root"),
	ROLE("sales"), ROLE("salg"), ROLE("secretariat"), ROLE("security"),
	ROLE("segreteria"), ROLE("sekretariat"), ROLE("service"),
	ROLE("service-client"), ROLE("services"), ROLE("sklep"),
	ROLE("soporte"), ROLE("sprzedaz"), ROLE("suporte"), ROLE("support"),
	ROLE("team"), ROLE("toimisto"), ROLE("ufficio"), ROLE("usenet"),
	ROLE("uucp"), ROLE("vendas"), ROLE("vendite"), ROLE("ventas"),
	ROLE("ventes"), ROLE("verkauf"), ROLE("verkoop"), ROLE("vertrieb"),
	ROLE("webmaster"), ROLE("www"), ROLE("zentrale")
};

/*
 * A list with its index: open addressing, slots hold a place in the list plus
 * 1.  Slots are a power of two and at least twice as many as names.
 */
#define DOMAIN_SLOTS	1024
#define ROLE_SLOTS		512

StaticAssertDecl(lengthof(mail_domains) <= DOMAIN_SLOTS / 2,
				 "DOMAIN_SLOTS is too small");
StaticAssertDecl(lengthof(role_local_parts) <= ROLE_SLOTS / 2,
				 "ROLE_SLOTS is too small");

typedef struct NameIndex
{
	const ListedName *names;
	int			count;
	uint16	   *slots;
	uint32		mask;
	int			longest;		/* 0 until the index is filled */
} NameIndex;

static uint16 domain_slots[DOMAIN_SLOTS];
static uint16 role_slots[ROLE_SLOTS];

static NameIndex domain_index = {
	mail_domains, lengthof(mail_domains), domain_slots, DOMAIN_SLOTS - 1, 0
};
static NameIndex role_index = {
	role_local_parts, lengthof(role_local_parts), role_slots, ROLE_SLOTS - 1, 0
};

static const ListedName *find(NameIndex *index, const char *name, int len);
static void fill(NameIndex *index);
static uint32 hash(const char *name, int len);

/*
 * Classify a mail domain.  Throw-away services accept mail for any name below
 * their own, so for them the parents count as well.
 */
LrMailKind
lr_domain_mail_kind(const char *domain, int len)
{
	const ListedName *found = find(&domain_index, domain, len);
	const char *end = domain + len;
	const char *dot;

	if (found != NULL)
		return found->kind;

	while ((dot = memchr(domain, '.', end - domain)) != NULL)
	{
		domain = dot + 1;
		if (memchr(domain, '.', end - domain) == NULL)
			break;
		found = find(&domain_index, domain, end - domain);
		if (found != NULL && found->kind == LR_MAIL_DISPOSABLE)
			return LR_MAIL_DISPOSABLE;
	}
	return LR_MAIL_BUSINESS;
}

/*
 * Say whether a domain is that of a mail service for everybody.
 */
bool
lr_domain_is_free_mail(const char *domain, int len)
{
	const ListedName *found = find(&domain_index, domain, len);

	return found != NULL && found->kind == LR_MAIL_FREE;
}

/*
 * Say whether a local part is a role's, whatever follows a '+' in it.
 */
bool
lr_local_part_is_role(const char *local, int len)
{
	const char *plus = memchr(local, '+', len);

	return find(&role_index, local, plus != NULL ? plus - local : len) != NULL;
}

/*
 * Find a name in a list, NULL if it is not there.
 */
static const ListedName *
find(NameIndex *index, const char *name, int len)
{
	uint32		slot;

	if (index->longest == 0)
		fill(index);
	if (len <= 0 || len > index->longest)
		return NULL;

	for (slot = hash(name, len) & index->mask;
		 index->slots[slot] != 0;
		 slot = (slot + 1) & index->mask)
	{
		const ListedName *candidate = &index->names[index->slots[slot] - 1];

		if (candidate->len == len && memcmp(candidate->name, name, len) == 0)
			return candidate;
	}
	return NULL;
}

/*
 * Fill the index of a list.
 */
static void
fill(NameIndex *index)
{
	int			longest = 0;
	int			i;

	for (i = 0; i < index->count; i++)
	{
		const ListedName *name = &index->names[i];
		uint32		slot = hash(name->name, name->len) & index->mask;

		Assert(i == 0 || name->kind != name[-1].kind ||
			   strcmp(name[-1].name, name->name) < 0);
		while (index->slots[slot] != 0)
			slot = (slot + 1) & index->mask;
		index->slots[slot] = i + 1;
		longest = Max(longest, name->len);
	}
	index->longest = longest;
}

/*
 * Hash a name: its length, first and last bytes, eight of each if it has that
 * many.  Names that differ only between them would share a slot, at no harm.
 */
static uint32
hash(const char *name, int len)
{
	uint64		first = 0;
	uint64		last = 0;

	if (len >= 8)
	{
		memcpy(&first, name, 8);
		memcpy(&last, name + len - 8, 8);
	}
	else if (len >= 4)
	{
		memcpy(&first, name, 4);
		memcpy(&last, name + len - 4, 4);
	}
	else
	{
		first = (unsigned char) name[0];
		last = (unsigned char) name[len / 2] << 8 | (unsigned char) name[len - 1];
	}
	first = (first ^ len) * UINT64CONST(0x9e3779b97f4a7c15);
	last = (last ^ first >> 32) * UINT64CONST(0xc2b2ae3d27d4eb4f);
	return (first ^ last) >> 32;
}
