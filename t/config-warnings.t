# Licensed under the Apache License, Version 2.0; see LICENSE.
#
# "httpd -t" accepts what may work but probably will not, and says so: each warning with
# its whole sentence. Warnings for one vhost also show which vhosts are managed.

use strict;
use warnings;

use Apache::Test qw(-withtestmore);

use Autocert::Client qw(make_ca issue_pair);
use Autocert::Configtest qw(vhost);
use Autocert::Util qw(spit);

my $judge = Autocert::Configtest->new;
my $server = $judge->server;
my $root = $server->root;
my $user = $server->user;
my ($uid, $gid) = (getpwnam $user)[2, 3];
my $group = getgrgid $gid;

my $managed = vhost('AutocertDomain www.example.org');
my $listen = "Listen 80\nListen 443\n";
my $cache = "AutocertCache dir:\@cache\@\n";
my $tos = "AutocertAcceptTOS on\n";

# --- The terms ---

my $no_terms = 'AutocertAcceptTOS is not set: nothing is ordered from a CA with terms of service; read '
    . 'them and write "AutocertAcceptTOS on"';
$judge->warns('GC-03: terms not accepted', $managed, [$no_terms], base => $listen . $cache);
$judge->warns('terms accepted, then not', "AutocertAcceptTOS off\n$managed", [$no_terms]);
$judge->accepts('nothing is managed: nothing is said', "<VirtualHost *:443>\n</VirtualHost>\n",
    base => "Listen 8080\n");

# --- CAs ---

my $needs_eab = 'AutocertCA: "%s" needs eab=FILE unless the account exists already in the cache: get a key id and a key from '
    . 'the CA, and write them into a file';
for my $ca ('zerossl', 'google', 'actalis', 'https://acme.zerossl.com/v2/DV90') {
    $judge->warns("$ca without eab=", ">>AutocertCA $ca\n$managed",
        [sprintf $needs_eab, $ca =~ /zerossl/ ? 'zerossl' : $ca]);
}
$judge->warns('the second of two needs eab=', "AutocertCA letsencrypt\n>>AutocertCA zerossl\n$managed",
    [sprintf $needs_eab, 'zerossl']);
my $no_email = 'AutocertCA: "%s" issues nothing without a contact: write "email=ADDRESS" or '
    . '"AutocertEmail ADDRESS"';
for my $ca ('sslcom', 'sslcom-rsa') {
    $judge->warns("$ca without eab=", ">>AutocertCA $ca email=a\@example.org\n$managed",
        [sprintf $needs_eab, $ca]);
    $judge->warns("$ca without a contact", ">>AutocertCA $ca eab=kid:c2VjcmV0\n$managed",
        [sprintf $no_email, $ca]);
    $judge->warns("$ca without anything", ">>AutocertCA $ca\n$managed",
        [(sprintf $needs_eab, $ca), sprintf $no_email, $ca]);
    $judge->accepts("$ca with AutocertEmail", "AutocertCA $ca eab=kid:c2VjcmV0\nAutocertEmail a\@example.org\n"
            . $managed);
}
my $test_ca = 'AutocertCA: "%s" is a test CA beside others: visitors get certificates that nobody trusts when its turn '
    . 'comes; remove the line, unless you mean it';
$judge->warns('a test CA behind another', "AutocertCA letsencrypt\n>>AutocertCA letsencrypt-staging\n$managed",
    [sprintf $test_ca, 'letsencrypt-staging']);
$judge->warns('a test CA before another', ">>AutocertCA https://ca.example.org/dir test=on\n"
        . "AutocertCA letsencrypt\n$managed", [sprintf $test_ca, 'ca.example.org']);
$judge->accepts('test CAs among themselves', "AutocertCA letsencrypt-staging\n"
        . "AutocertCA https://ca.example.org/dir test=on\n$managed");
# Two directories of one host are told apart.
$judge->warns('a test CA on the host of another', "AutocertCA https://ca.example.org/real\n"
        . ">>AutocertCA https://ca.example.org/test/dir test=on\n$managed",
    [sprintf $test_ca, 'ca.example.org/test/dir']);
$judge->accepts('nothing is managed: nothing is said of CAs', "AutocertCA zerossl\n");

# --- Listeners ---

my $no_listener = 'nothing listens on port 80 or 443, where a CA looks for the answers to its challenges: '
    . 'write "Listen 443" and "Listen 80", unless these ports are mapped to this server\'s';
$judge->warns('no listener on 80 or 443', "<VirtualHost *:8443>\nAutocertDomain www.example.org\n"
        . "</VirtualHost>\n", [$no_listener], base => "Listen 8080\nListen 8443\n$cache$tos");
$judge->accepts("only Listen $_", $managed, base => "Listen $_\n$cache$tos")
    for 80, '127.0.0.1:443', '[::]:80';
$judge->warns('AutocertListener on another port', "AutocertListener 8443 www.example.org\n",
    [$no_listener], base => $cache . $tos);
$judge->accepts('AutocertListener opens 443', "AutocertListener www.example.org\n", base => $cache . $tos);

# --- Names that are skipped ---

my $skipped = '; it is skipped and gets no certificate';
my $private = 'is no address of the internet, and no public CA issues for it: write a public one, or name a private '
    . 'CA with AutocertCA';
for my $case (
    ['*.example.org', 'is a pattern'],
    ['w?w.example.org', 'is a pattern'],
    ['localhost', 'has no dot'],
    ['192.0.2.1', $private],
    ['a_b.example.org', 'has a character that host names cannot have'],
    ['db.internal', 'is under "internal", for which no public CA issues: write a public name, or name a '
        . 'private CA with AutocertCA']) {
    my ($name, $why) = @$case;
    $judge->warns("a ServerAlias $name", vhost('ServerName www.example.org', '>>AutocertDomain',
            "ServerAlias $name"), ["ServerAlias \"$name\" $why$skipped"]);
}
$judge->warns('a ServerName that is an address', vhost('ServerName 192.0.2.1', '>>AutocertDomain',
        'ServerAlias www.example.org'), ["ServerName \"192.0.2.1\" $private$skipped"]);
$judge->accepts('aliases beside names that are listed are not meant', vhost(
        'AutocertDomain www.example.org', 'ServerAlias *.example.org localhost'));

# --- Which vhosts AutocertEngine means: those that complain of the pattern ---

my $pair = issue_pair(make_ca('static CA'), ['www.example.org']);
spit("$root/static.pem", $pair->{pem} . $pair->{key_pem});

sub bare
{
    my ($title, $is_managed, $text, %opt) = @_;
    $text =~ s/^ServerName .*\n\K/ServerAlias *.example.net\n/m or die "no ServerName: $text";
    return $judge->accepts("not managed: $title", $text, %opt) unless $is_managed;
    return $judge->warns("managed: $title", $text =~ s/^(?=<VirtualHost)/>>/mr,
        ["ServerAlias \"*.example.net\" is a pattern$skipped"], %opt);
}

my @tls = ('ServerName www.example.org', 'SSLEngine on');
my $own = 'SSLCertificateFile @root@/static.pem';
bare('AutocertEngine on, a TLS vhost without a certificate', 1, "AutocertEngine on\n" . vhost(@tls));
bare('no AutocertEngine', 0, vhost(@tls));
bare('AutocertEngine off', 0, "AutocertEngine off\n" . vhost(@tls));
bare('AutocertEngine on below the vhost', 1, vhost(@tls) . "AutocertEngine on\n");
bare('a vhost that says off', 0, "AutocertEngine on\n" . vhost(@tls, 'AutocertEngine off'));
bare('a vhost that says on, the server off', 1, "AutocertEngine off\n" . vhost(@tls, 'AutocertEngine on'));
bare('a vhost with a certificate of its own', 0, "AutocertEngine on\n" . vhost(@tls, $own));
bare('a certificate inherited from the server', 0, "AutocertEngine on\n$own\n" . vhost(@tls));
bare('a vhost with a certificate that says on', 1, vhost(@tls, $own, 'AutocertEngine on'));
bare('a port that is not listened on for https', 0, "AutocertEngine on\n<VirtualHost *:8443>\n"
        . "ServerName www.example.org\n</VirtualHost>\n", base => "Listen 80\nListen 8443\n$cache$tos");
bare('a vhost with SSLEngine off', 0, "AutocertEngine on\n"
        . vhost('ServerName www.example.org', 'SSLEngine off'));
bare('SSLEngine on in the server', 1, "AutocertEngine on\nSSLEngine on\n"
        . vhost('ServerName www.example.org'));
bare('port 443 is for https', 1, "AutocertEngine on\n" . vhost('ServerName www.example.org'));
bare('another port that is listened on for https', 1, "AutocertEngine on\n<VirtualHost *:8443>\n"
        . "ServerName www.example.org\n</VirtualHost>\n", base => "Listen 80\nListen 8443 https\n$cache$tos");
bare('port 443 that is listened on for http', 0, "AutocertEngine on\n" . vhost('ServerName www.example.org'),
    base => "Listen 443 http\n$cache$tos");
bare('SSLEngine off on such a port', 0, "AutocertEngine on\n"
        . vhost('ServerName www.example.org', 'SSLEngine off'), base => "Listen 443 https\n$cache$tos");
bare('SSLEngine off in the server on such a port', 0, "AutocertEngine on\nSSLEngine off\n"
        . vhost('ServerName www.example.org'));
bare('a vhost for port 80 without TLS', 0, "AutocertEngine on\n<VirtualHost *:80>\n"
        . "ServerName www.example.org\n</VirtualHost>\n");
bare('AutocertDomain in a vhost that says off', 0, vhost('ServerName www.example.org', 'AutocertDomain',
        'AutocertEngine off'));
bare('inside IfModule', 1, "<IfModule mod_ssl.c>\nAutocertEngine on\n</IfModule>\n"
        . vhost('<IfModule mod_ssl.c>', @tls, '</IfModule>'));
bare('a certificate inside IfModule', 0, "AutocertEngine on\n"
        . vhost(@tls, '<IfModule mod_ssl.c>', $own, '</IfModule>'));

# --- The cache ---

my $no_write = 'AutocertCache directory %s is owned by uid %d with mode %s, httpd\'s children '
    . 'run as uid %d and cannot write there: run "chown -R %s:%s %s && chmod 700 %s"';
my $dir = "$root/state/theirs";
mkdir $dir, 0755 or die "$dir: $!\n";
# Root's directory; for others, one that they may not write into themselves.
chmod $> == 0 ? 0755 : 0500, $dir or die "chmod: $!\n";
$judge->warns('X-06: a cache that is not writable by User', ">>AutocertCache dir:$dir\n$managed",
    [sprintf $no_write, $dir, $>, $> == 0 ? '755' : '500', $uid, $user, $group, $dir, $dir],
    base => $listen . $tos);
chmod 0500, $dir or die "chmod: $!\n";
if ($> == 0) {
    chown $uid, $gid, $dir or die "chown: $!\n";
}
$judge->warns('X-13: a cache of User that is read-only', ">>AutocertCache dir:$dir\n$managed",
    [sprintf $no_write, $dir, $uid, '500', $uid, $user, $group, $dir, $dir], base => $listen . $tos);
chmod 0700, $dir or die "chmod: $!\n";
$judge->accepts('a cache that User can write', "AutocertCache dir:$dir\n$managed", base => $listen . $tos);
if ($> == 0) {
    chown +(getpwnam 'nobody')[2, 3], $dir or die "chown: $!\n";
}
$judge->accepts('without a User line children are whoever starts httpd',
    "AutocertCache dir:$dir\n$managed", base => $listen . $tos, as => 'nobody', user => 0);
if ($> == 0) {
    chown $uid, $gid, $dir or die "chown: $!\n";
}
$judge->accepts('a path that is relative to the ServerRoot', "AutocertCache dir:state/theirs\n$managed",
    base => $listen . $tos);

# Who is not root and will not be when the server starts cannot make it just anywhere.
chmod 0555, "$root/state" or die "chmod: $!\n";
$judge->warns('a missing cache that httpd cannot make', ">>AutocertCache dir:state/a/b\n$managed",
    ["AutocertCache directory $root/state/a/b does not exist and httpd, running as uid $uid, "
        . "cannot make it in $root/state: run \"mkdir -p -m 700 $root/state/a/b && chown $user:$group "
        . "$root/state/a/b\" as root"], base => $listen . $tos, as => 'nobody');
chmod 0755, "$root/state" or die "chmod: $!\n";
if ($> == 0) {
    $judge->accepts('a missing cache that root makes', "AutocertCache dir:state/a/b\n$managed",
        base => $listen . $tos);
}

$judge->warns('all at once', vhost('AutocertDomain www.example.org'), [$no_terms, $no_listener],
    base => "Listen 8080\n$cache");

done_testing;
